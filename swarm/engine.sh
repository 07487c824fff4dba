# shellcheck shell=bash disable=SC2154
# What the tests here have in common: the engine, the load and the stack. They source it, and set
# stack, image and server.

# What is ours to undo.
started_engine='' initialised=''

make_work() { work=$(mktemp -d "${TMPDIR:-/tmp}/holdline-swarm.XXXXXX"); touch "$work/load.log"; }

step() { printf '%s  %s\n' "$(date +%T)" "$*"; }

# since prints the seconds that have passed.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN {printf "%.1f s", to - from}'; }

# until_true SECONDS COMMAND… runs a command until it succeeds.
until_true() {
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$limit" ] || { echo "not in time: $*" >&2; return 1; }
    sleep 0.2
  done
}

# whole: every service of the stack has all its replicas, and they are healthy.
whole() {
  docker service ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Replicas}}' |
    awk '{split($1, r, "/"); if (r[1] != r[2]) bad = 1} END {exit bad || NR != 6}'
}

# build makes the image and the load, and finds a Redis.
build() {
  make -s image IMAGE="$image" TAG=one >/dev/null 2>"$work/build.log" || { cat "$work/build.log"; return 1; }
  HOLDLINE_REDIS_IMAGE=$(redis_image)
  export HOLDLINE_REDIS_IMAGE
  go build -o "$work/load" ./swarm/load
}

# start_load calls from now on; begin and end tell the load what is done meanwhile.
start_load() {
  mkfifo "$work/done"
  "$work/load" -server "$server" <"$work/done" >"$work/report" 2>"$work/load.log" &
  load=$!
  exec 3>"$work/done"
}

begin() { echo "begin $*" >&3; }
end() { echo "end $*" >&3; }

end_load() {
  exec 3>&-
  wait "$load" || { load=''; cat "$work/report"; return 1; }
  load=''
  step "load: $(tail -n 1 "$work/report")"
}

# start_engine finds an engine, or starts one with a home of its own, and makes a
# swarm of it unless it is in one.
start_engine() {
  if ! docker info >/dev/null 2>&1; then
    local why=''
    command -v docker >/dev/null || why='there is no docker command (Debian: apt-get install docker.io)'
    [ -n "$why" ] || command -v dockerd >/dev/null || why='no Docker engine answers, and there is no dockerd to start one'
    [ -n "$why" ] || [ "$(id -u)" = 0 ] || why='no Docker engine answers, and only root can start one'
    [ -z "$why" ] || { echo "no engine: $why"; exit 3; }
    dockerd --host "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" \
      --pidfile "$work/docker.pid" >"$work/dockerd.log" 2>&1 &
    started_engine=$!
    export DOCKER_HOST=unix://$work/docker.sock
    until_true 30 docker info >/dev/null 2>&1 || { echo "no engine: $(tail -n 1 "$work/dockerd.log")"; exit 3; }
  fi
  if [ "$(docker info -f '{{.Swarm.LocalNodeState}}')" = inactive ]; then
    docker swarm init --advertise-addr 127.0.0.1 >/dev/null
    initialised=yes
  fi
  step "engine $(docker version -f '{{.Server.Version}}')${started_engine:+, started for this}${initialised:+, a new swarm}"
}

stop_engine() {
  [ -z "$initialised" ] || docker swarm leave --force >/dev/null
  [ -z "$started_engine" ] || { kill "$started_engine"; wait "$started_engine"; }
}

# redis_image prints the stack's Valkey, or makes an image of this machine's Redis, which is
# Debian's package, where that cannot be pulled.
redis_image() {
  local pinned file library root=$work/redis/root
  pinned=$(sed -n 's/.*HOLDLINE_REDIS_IMAGE:-\(.*\)}.*/\1/p' swarm/stack.yml)
  if docker image inspect "$pinned" >/dev/null 2>&1 || timeout 60 docker pull -q "$pinned" >/dev/null 2>&1; then
    echo "$pinned"
    return
  fi
  mkdir -p "$root/tmp" "$work/redis/data"
  for file in redis-server redis-cli sh sed sha256sum; do
    install -D "$(command -v "$file")" "$root/bin/$file"
    for library in $(ldd "$(command -v "$file")" | grep -o '/[^ ]*'); do install -D "$library" "$root$library"; done
  done
  printf 'FROM scratch\nENV PATH=/bin\nCOPY root /\nCOPY --chown=999:999 data /data/\n' >"$work/redis/Dockerfile"
  docker build -q -t holdline-redis:debian "$work/redis" >/dev/null 2>&1
  echo holdline-redis:debian
}
