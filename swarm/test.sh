#!/usr/bin/env bash
# The stack on a real engine, as its users run it: deployed, called, scaled, killed
# part by part, rolled and rolled back under load, taken away and brought back.
# Every accepted call must be answered, and none may fail while the stack is scaled
# and rolled. It cleans up after itself, but for the volume: --remove-volume.
#
#   HOLDLINE_PORT       the published port (18080)
#   HOLDLINE_ENCRYPTED  0: no encryption between nodes, for kernels without ESP
#
# It exits with 3 where no engine can be had.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=swarm/engine.sh
. swarm/engine.sh

stack='holdline-test'
image='holdline-test'
server=127.0.0.1:${HOLDLINE_PORT:=18080}
holdline=bin/image/holdline
files=(-c swarm/stack.yml)
export HOLDLINE_PORT HOLDLINE_IMAGE=$image HOLDLINE_TAG=one
export HOLDLINE_CONFIGS=test-$$ HOLDLINE_REDIS_SECRET=$stack-$$ HOLDLINE_MOM_SECRET=$stack-mom-$$
labelled='' load='' remove_volume=''
[ "${1:-}" != --remove-volume ] || remove_volume=yes
if [ "${HOLDLINE_ENCRYPTED:-1}" = 0 ]; then
  echo 'no encryption between nodes: HOLDLINE_ENCRYPTED=0'
  files+=(-c swarm/plain.yml)
fi

clean_up() {
  local status=$?
  trap - EXIT ERR
  set +e
  exec 3>&-
  [ -z "$load" ] || kill "$load" 2>/dev/null
  if docker info >/dev/null 2>&1; then
    if [ "$status" != 0 ]; then
      tail -n 40 "$work/load.log"
      show_failing
    fi
    remove_stack
    docker secret rm "$HOLDLINE_REDIS_SECRET" "$HOLDLINE_MOM_SECRET" >/dev/null 2>&1
    [ -z "$labelled" ] || docker node update --label-rm holdline.redis "$(docker node ls -q)" >/dev/null
    [ -z "$remove_volume" ] || docker volume rm "${stack}_redis-data" >/dev/null 2>&1
  fi
  stop_engine
  rm -rf "$work"
  exit "$status"
}

show_failing() {
  local service
  docker service ls
  for service in $(docker service ls --format '{{.Name}} {{.Replicas}}' | awk -v s="${stack}_" 'index($1, s) == 1 {split($2, r, "/"); if (r[1] != r[2]) print $1}'); do
    printf '\n-- %s\n' "$service"
    docker service ps --no-trunc "$service" | head -n 8
    docker service logs --tail 40 "$service" 2>&1
  done
}

remove_stack() {
  docker stack rm "$stack" >/dev/null 2>&1
  until_true 90 gone
}

gone() {
  [ -z "$(docker ps -aq --filter "label=com.docker.stack.namespace=$stack")" ] &&
    [ -z "$(docker network ls -q --filter "label=com.docker.stack.namespace=$stack")" ]
}

containers() { docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1"; }

# answers: a direct call, and one that is stored, get their sums.
answers() {
  local call=(curl -s -m 2 -H 'Content-Type: application/json' -d '{"a": 1, "b": 2}' "http://$server/arithmetic.v1.SumService/Sum")
  [ "$("${call[@]}")" = '{"result":3}' ] && [ "$("${call[@]}" -H "Idempotency-Key: $RANDOM$RANDOM")" = '{"result":3}' ]
}

build_images() {
  local started=$EPOCHREALTIME
  build
  docker tag $image:one $image:two
  mkdir "$work/broken"
  printf 'FROM %s\nENTRYPOINT ["/holdline", "no-such-command"]\n' $image:one >"$work/broken/Dockerfile"
  docker build -q -t $image:broken "$work/broken" >/dev/null 2>&1
  step "images built in $(since "$started"), Redis is $HOLDLINE_REDIS_IMAGE"
}

deploy() {
  local started=$EPOCHREALTIME
  docker stack deploy --resolve-image never "${files[@]}" $stack >/dev/null 2>&1
  until_true 90 answers
  local answered
  answered=$(since "$started")
  until_true 90 whole
  step "deployed: answers after $answered, whole after $(since "$started")"
}

journeys() {
  local started=$EPOCHREALTIME
  HOLDLINE_E2E_SERVER=$server go test -count=1 -v ./e2e >"$work/e2e.log" || { grep -v SKIP "$work/e2e.log"; return 1; }
  step "e2e: $(grep -c '^--- PASS' "$work/e2e.log") journeys passed in $(since "$started")"
}

# scale: four sums, all of which answer, and two again.
scale() {
  local started=$EPOCHREALTIME container packets=()
  begin 0 0 'scale sum to 4'
  docker service scale "${stack}_sum=4" >/dev/null
  until_true 60 four_sums_answer
  for container in $(containers sum); do packets+=("$(packets_of "$container")"); done
  end "$(since "$started")"
  step "sum scaled to 4 in $(since "$started"), packets sent by each: ${packets[*]}"
  begin 0 0 'scale sum to 2'
  started=$EPOCHREALTIME
  docker service scale "${stack}_sum=2" >/dev/null
  until_true 60 two_sums
  end "$(since "$started")"
  step "sum scaled to 2 in $(since "$started")"
}

two_sums() { [ "$(containers sum | wc -l)" = 2 ]; }

# packets_of counts what a container has sent to others.
packets_of() {
  awk '$1 ~ /^eth/ {n += $11} END {print n + 0}' "/proc/$(docker inspect -f '{{.State.Pid}}' "$1")/net/dev"
}

# Health checks go over lo, so what is sent in numbers are answers.
four_sums_answer() {
  local container n=0
  for container in $(containers sum); do
    [ "$(packets_of "$container")" -gt 200 ] || return 1
    n=$((n + 1))
  done
  [ "$n" = 4 ]
}

# kill_one kills a container of a part as a crash does, and waits for another.
kill_one() {
  local container task started
  container=$(containers "$1" | shuf -n 1)
  task=$(docker inspect -f '{{index .Config.Labels "com.docker.swarm.task.id"}}' "$container")
  begin - - "kill $1"
  started=$EPOCHREALTIME
  docker kill "$container" >/dev/null
  until_true 120 replaced "$task"
  until_true 60 answers
  end "$(since "$started")"
  step "killed $1: whole again after $(since "$started")"
}

replaced() {
  [ "$(docker inspect -f '{{.Status.State}}' "$1" 2>/dev/null)" != running ] && whole
}

# roll moves a part to another image: FAILED and REPEATED calls at most, PART, IMAGE.
roll() {
  local started=$EPOCHREALTIME
  begin "$1" "$2" "roll $3"
  docker service update -q --no-resolve-image --detach=false --image "$4" "${stack}_$3" >/dev/null
  until_true 30 updated "$3" "completed $4"
  until_true 60 answers
  end "$(since "$started")"
  step "rolled $3 in $(since "$started")"
}

# roll_back: an image that does not start is taken back by itself.
roll_back() {
  local started=$EPOCHREALTIME
  begin 0 0 "roll $1 to a broken image"
  docker service update -q --no-resolve-image --detach=false --image $image:broken "${stack}_$1" >/dev/null 2>&1 || true
  until_true 90 updated "$1" "rollback_completed $image:two"
  end "$(since "$started")"
  step "rolled a broken image of $1 back in $(since "$started")"
}

# updated PART STATE: its last update came to that state and image.
updated() {
  [ "$(docker service inspect -f '{{.UpdateStatus.State}} {{.Spec.TaskTemplate.ContainerSpec.Image}}' "${stack}_$1")" = "$2" ] && whole
}

# come_back: tasks outlive the stack, since its volume does.
come_back() {
  local n id ids=()
  docker service scale "${stack}_subtraction=0" >/dev/null
  for n in $(seq 20); do
    ids+=("$("$holdline" call --server "http://$server" --async -d "{\"a\": $n, \"b\": -1}" arithmetic.v1.SubtractionService/Subtract)")
  done
  remove_stack
  docker volume inspect "${stack}_redis-data" >/dev/null
  HOLDLINE_TAG=two deploy
  n=1
  for id in "${ids[@]}"; do
    n=$((n + 1))
    [ "$("$holdline" task wait --server "http://$server" "$id")" = "{\"result\":$n}" ]
  done
  step "stack removed and deployed again: ${#ids[@]} tasks of before answered"
}

make_work
trap clean_up EXIT
trap 'exit 130' INT TERM
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
start_engine
[ "$(docker node ls -q | wc -l)" = 1 ] || { echo 'this engine has a swarm of several nodes: the test is for one'; exit 1; }
gone || { echo "there is a stack $stack here already: docker stack rm $stack"; exit 1; }
begun=$EPOCHREALTIME
build_images
for secret in "$HOLDLINE_REDIS_SECRET" "$HOLDLINE_MOM_SECRET"; do
  openssl rand -hex 32 | docker secret create "$secret" - >/dev/null
done
if [ "$(docker node inspect self -f '{{index .Spec.Labels "holdline.redis"}}')" != true ]; then
  labelled=yes
  docker node update --label-add holdline.redis=true "$(docker node ls -q)" >/dev/null
fi
deploy
journeys
start_load
scale
for part in $(shuf -e gateway mom redis sum subtraction multiplication); do kill_one "$part"; done
# One gateway on one port is away for a moment: callers dial again, and none fails.
# A new Redis is not there before the old one is gone: calls that ask to be stored
# are told to come again.
roll 0 - gateway $image:two
for part in mom sum subtraction multiplication; do roll 0 0 $part $image:two; done
docker tag "$HOLDLINE_REDIS_IMAGE" $image:redis-two
roll - - redis $image:redis-two
roll_back sum
roll_back mom
end_load
come_back
cat "$work/report"
step "all of it in $(since "$begun")"
