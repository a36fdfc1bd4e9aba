#!/bin/sh
# Redis, in memory only, over TLS with the password REDIS_PASSWORD; /tls has ca.crt, tls.crt, tls.key.
set -eu
umask 077
cat > /tmp/redis.conf <<END
port 0
tls-port 6379
tls-cert-file /tls/tls.crt
tls-key-file /tls/tls.key
tls-ca-cert-file /tls/ca.crt
tls-auth-clients no
requirepass $REDIS_PASSWORD
save ""
dir /tmp
END
exec redis-server /tmp/redis.conf
