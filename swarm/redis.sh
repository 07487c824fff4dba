#!/bin/sh
# Starts Redis for one user, holdline, with what a MOM needs and nothing more: its
# keys, its channels, these commands. Each secret that there is is a password of
# his, so that one can be rotated. Standard input keeps them out of files and
# command lines.
#
# Nobody can log in as default, but Redis reads its append-only file as that user:
# without the right to do all of it, it drops what may not be done, with no more
# than a line in its log.
set -eu
passwords=
for file in "${SECRETS:-/run/secrets}"/*; do
  read -r password <"$file" || [ -n "$password" ]
  passwords="$passwords >$password"
done
[ -n "$passwords" ] || { echo "no password in ${SECRETS:-/run/secrets}" >&2; exit 1; }
exec redis-server - "$@" <<EOF
include ${CONF:-/etc/redis/redis.conf}
user default off ~* &* +@all
user holdline on$passwords ~hl:* &hl:*:events -@all \
+hello +auth +ping +info +client|id +client|unblock \
+eval +evalsha +subscribe +blpop +scan +get +set +strlen +incrby +decrby +hgetall +zrevrangebylex \
+time +publish +exists +del +pexpireat \
+hget +hmget +hset +hdel \
+lindex +linsert +llen +lpop +lpush +lrange +lrem +rpush \
+zadd +zcard +zrange +zrangebyscore +zrem
EOF
