#!/bin/sh
# Starts Valkey, or Redis, for one user, holdline, with what a MOM needs and nothing more: its
# keys, its channels, these commands. Each secret that there is is a password of
# his, so that one can be rotated. A secret is one line, without the blanks around it, as
# the MOM reads it. Redis gets its hash: whatever is in a secret, quotes and blanks too,
# says nothing to Redis but that, and it is in no file and no command line. sed and
# sha256sum, for that, are in every image of Valkey and Redis.
#
# Nobody can log in as default, but Redis reads its append-only file as that user:
# without the right to do all of it, it drops what may not be done, with no more
# than a line in its log.
set -eu
fail() {
  echo "$1" >&2
  exit 1
}
passwords=
for file in "${SECRETS:-/run/secrets}"/*; do
  [ -r "$file" ] || fail "no password in ${SECRETS:-/run/secrets}, or none that may be read"
  password=$(sed 's/^[[:space:]]*//; s/[[:space:]]*$//' "$file")
  case $password in
  '') fail "$file: it is empty, and a password must not be" ;;
  *'
'*) fail "$file: it has several lines, and a password is one" ;;
  esac
  hash=$(printf %s "$password" | sha256sum)
  passwords="$passwords #${hash%% *}"
done
exec "$(command -v valkey-server || command -v redis-server)" - "$@" <<EOF
include ${CONF:-/etc/redis/redis.conf}
user default off ~* &* +@all
user holdline on$passwords ~hl:* &hl:*:events -@all \
+hello +auth +ping +info +client|id +client|unblock \
+eval +evalsha +subscribe +blpop +scan +get +getbit +set +strlen +incrby +decrby +hgetall +zrevrangebylex \
+time +publish +exists +del +pexpireat \
+hget +hmget +hset +hdel \
+lindex +linsert +llen +lpop +lpush +lrange +lrem +lset +rpush \
+zadd +zcard +zrange +zrangebyscore +zrem
EOF
