#!/usr/bin/env bash
# Three engines as three nodes on one machine: a network namespace and a dockerd
# each, on a switch in a namespace of its own. Labels place the parts as roles.yml
# says, then a worker is cut off, whose calls have to be answered or stored within 4 s,
# comes back, and the manager dies. It needs root, and takes away all that it made.
#
# It exits with 3 where no engine can be had.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=swarm/engine.sh
. swarm/engine.sh

stack='holdline'
image='holdline-test'
server=10.213.0.1:8080
holdline=bin/image/holdline
nodes=(1 2 3)
engines=() load=''
export HOLDLINE_IMAGE=$image HOLDLINE_TAG=one HOLDLINE_MULTIPLICATION_FUNCTION=subtraction

on() { docker -H "unix://$work/$1/docker.sock" "${@:2}"; }

clean_up() {
  local status=$? n engine
  trap - EXIT ERR
  set +e
  exec 3>&-
  [ -z "$load" ] || kill "$load" 2>/dev/null
  if [ "$status" != 0 ]; then
    tail -n 20 "$work/load.log"
    on 1 service ls
    on 1 stack ps --no-trunc "$stack" | head -n 20
    for n in gateway mom sum; do on 1 service logs --tail 20 "${stack}_$n" 2>&1; done
  fi
  for n in "${nodes[@]}"; do ip -n hl-switch link set "hl-$n" up; done 2>/dev/null
  for n in 3 2 1; do on "$n" swarm leave --force; done >/dev/null 2>&1
  for engine in "${engines[@]}"; do kill "$engine"; wait "$engine"; done 2>/dev/null
  for n in "${nodes[@]}"; do end_orphans "$n"; ip netns del "hl-$n"; done 2>/dev/null
  ip netns del hl-switch 2>/dev/null
  for n in "${nodes[@]}"; do umount "$work/$n"/exec/netns/* "$work/$n"/data/overlay2/*/merged; done 2>/dev/null
  rm -rf "$work"
  exit "$status"
}

# end_orphans ends what a killed engine left behind: all that runs from its folder.
end_orphans() {
  local pid
  for pid in $(pgrep -f "$work/$1/exec"); do kill -9 "$pid" $(pgrep -P "$pid"); done
}

# start_nodes: the bridge is in a namespace of its own, or the host's firewall
# would see what passes over it.
start_nodes() {
  local n
  ip netns add hl-switch
  ip -n hl-switch link add br0 type bridge
  ip -n hl-switch link set br0 up
  ip link add hl-host type veth peer name hl-host netns hl-switch
  ip addr add 10.213.0.254/24 dev hl-host
  ip link set hl-host up
  ip -n hl-switch link set hl-host master br0 up
  for n in "${nodes[@]}"; do
    mkdir "$work/$n"
    ip netns add "hl-$n"
    ip -n "hl-$n" link add eth0 type veth peer name "hl-$n" netns hl-switch
    ip -n hl-switch link set "hl-$n" master br0 up
    ip -n "hl-$n" addr add "10.213.0.$n/24" dev eth0
    ip -n "hl-$n" link set eth0 up
    ip -n "hl-$n" link set lo up
    ip -n "hl-$n" route add default via 10.213.0.254
    nsenter --net="/run/netns/hl-$n" unshare --uts --mount sh -c "hostname node-$n; mkdir -p /run/docker
      mount -t tmpfs none /run/docker; echo nameserver 127.0.0.1 >$work/$n/resolv.conf
      mount --bind $work/$n/resolv.conf /etc/resolv.conf
      exec dockerd --host unix://$work/$n/docker.sock --data-root $work/$n/data --exec-root $work/$n/exec --pidfile $work/$n/pid" \
      >"$work/$n/log" 2>&1 &
    engines+=($!)
  done
  for n in "${nodes[@]}"; do
    until_true 30 on "$n" info >/dev/null 2>&1 || { echo "no engine: $(tail -n 1 "$work/$n/log")"; exit 3; }
  done
  export DOCKER_HOST=unix://$work/1/docker.sock # whom engine.sh asks
  on 1 swarm init --advertise-addr 10.213.0.1 >/dev/null
  for n in 2 3; do
    on "$n" swarm join --advertise-addr "10.213.0.$n" --token "$(on 1 swarm join-token -q worker)" 10.213.0.1:2377 >/dev/null
  done
  step "three engines, a swarm of $(on 1 node ls -q | wc -l) nodes"
}

call() { "$holdline" call --server "http://$server" -d '{"a": 4, "b": 2}' "${@:2}" "arithmetic.v1.$1"; }

answers() {
  [ "$(call SumService/Sum)" = '{"result":6}' ] && [ "$(call MultiplicationService/Multiply --key "$RANDOM$RANDOM")" = '{"result":8}' ]
} 2>/dev/null

deploy() {
  local started=$EPOCHREALTIME n part
  build
  docker save $image:one "$HOLDLINE_REDIS_IMAGE" >"$work/images.tar"
  for n in "${nodes[@]}"; do on "$n" load -q -i "$work/images.tar" >/dev/null; done
  step "images built, and loaded by each node, in $(since "$started")"
  on 1 node update --label-add holdline.redis=true node-1 >/dev/null
  on 1 node update --label-add function=sum node-2 >/dev/null
  on 1 node update --label-add function=subtraction node-3 >/dev/null
  openssl rand -hex 32 | on 1 secret create redis-password - >/dev/null
  openssl rand -hex 32 | on 1 secret create mom-secret - >/dev/null
  local files=(-c swarm/stack.yml -c swarm/roles.yml)
  if [ "$(zcat /proc/config.gz 2>/dev/null | grep -c '^# CONFIG_INET_ESP is not set')" = 1 ]; then
    echo 'no encryption between nodes: this kernel has no ESP (CONFIG_INET_ESP)'
    files+=(-c swarm/plain.yml)
  fi
  started=$EPOCHREALTIME
  on 1 stack deploy --resolve-image never "${files[@]}" "$stack" >/dev/null 2>&1
  until_true 120 answers
  until_true 60 whole
  step "deployed: whole after $(since "$started")"
  for part in gateway mom redis; do until_true 30 placed $part node-1; done
  until_true 30 placed sum node-2
  for part in subtraction multiplication; do until_true 30 placed $part node-3; done
  step 'every part is where its label says'
}

placed() {
  [ "$(on 1 service ps -f desired-state=running --format '{{.Node}}' "${stack}_$1" | sort -u)" = "$2" ]
}

# worker: its sums are stored while it is cut off, and answered when it is back.
worker() {
  local started stored
  start_load
  sleep 3 # until there are connections to all
  begin - - 'a worker is cut off'
  sleep 1 # what is on its way when it is cut off began in this time
  started=$EPOCHREALTIME
  ip -n hl-switch link set hl-2 down
  until_true 60 stored
  stored=$(since "$started")
  step "worker cut off: a call of the command line has its handle after $stored"
  until_true 60 down
  step "worker cut off: the swarm knows after $(since "$started")"
  sleep 5 # until calls that were held have their handles
  end "stored after $stored"
  begin - - 'the worker is back'
  started=$EPOCHREALTIME
  ip -n hl-switch link set hl-2 up
  until_true 120 answers
  until_true 120 whole
  end "$(since "$started")"
  step "worker back: whole after $(since "$started")"
  end_load
  awk -F'|' '/cut off/ && $9 + 0 <= 4 {good = 1} END {exit !good}' "$work/report" ||
    { cat "$work/report"; echo 'a call was neither answered nor stored within 4 s'; return 1; }
}

down() { [ "$(on 1 node inspect -f '{{.Status.State}}' node-2)" = down ]; }

# stored: what the worker would have answered gets a handle.
stored() { [[ $("$holdline" call --server "http://$server" --wait 1s arithmetic.v1.SumService/Sum 2>&1) == *'the task goes on'* ]]; }

# manager: without it nobody calls through the gateway, but the workers go on. What Swarm has
# yet to replace when it dies is never replaced, so it is given time for that.
manager() {
  local started n
  until_true 120 settled
  started=$EPOCHREALTIME
  kill -9 "${engines[0]}"
  end_orphans 1 2>/dev/null || true
  ip -n hl-switch link set hl-1 down
  until_true 30 serves 2 sum SumService/Sum '{"result":6}'
  until_true 30 serves 3 subtraction SubtractionService/Subtract '{"result":2}'
  until_true 30 serves 3 multiplication MultiplicationService/Multiply '{"result":8}'
  for n in $(seq 10); do
    until_true 5 serves 2 sum SumService/Sum '{"result":6}'
    until_true 5 serves 3 multiplication MultiplicationService/Multiply '{"result":8}'
    sleep 1
  done
  step "manager dead for $(since "$started"): all three services answer on their workers"
}

# settled: all that is to run runs, and nothing else does.
settled() {
  whole && on 1 stack ps --format '{{.DesiredState}} {{.CurrentState}}' "$stack" |
    awk '($1 == "Running") != ($2 == "Running") {bad = 1} END {exit bad}'
}

# serves NODE PART METHOD ANSWER: a container of the part answers on its own node. There are two, or
# none, while one is replaced.
serves() {
  local container
  for container in $(on "$1" ps -q --filter "label=com.docker.swarm.service.name=${stack}_$2"); do
    [ "$(on "$1" exec "$container" /holdline call --server http://127.0.0.1:8080 -d '{"a": 4, "b": 2}' "arithmetic.v1.$3")" != "$4" ] || return 0
  done
  return 1
} 2>/dev/null

[ "$(id -u)" = 0 ] || { echo 'no engine: namespaces and dockerd need root'; exit 3; }
make_work
trap clean_up EXIT
trap 'exit 130' INT TERM
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
start_nodes
deploy
worker
manager
cat "$work/report"
