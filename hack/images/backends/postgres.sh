#!/bin/sh
# PostgreSQL on the volume /data. POSTGRES_PASSWORD is that of the user soma; /tls has ca.crt, tls.crt, tls.key; whoever calls shows a
# certificate of that authority and the password.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
data=/data/postgres
umask 077
cp /tls/tls.key /tmp/tls.key  # as mounted its group may read it, which PostgreSQL refuses
if [ ! -s "$data/PG_VERSION" ]; then
  rm -rf "$data"
  printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
  "$bin/initdb" --pgdata="$data" --username=soma --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync > /tmp/initdb.log
  rm /tmp/password
  echo 'hostssl all all all scram-sha-256 clientcert=verify-ca' > "$data/pg_hba.conf"
  echo 'create database somamemory' | "$bin/postgres" --single -D "$data" postgres > /tmp/single.log
fi
chmod 0700 "$data"  # a volume's fsGroup may have opened it
exec "$bin/postgres" -D "$data" -c listen_addresses='*' -c unix_socket_directories='' -c jit=off -c shared_buffers=64MB \
  -c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tmp/tls.key -c ssl_ca_file=/tls/ca.crt
