#!/bin/sh
# One Kafka broker (KRaft) on the volume /data, over TLS, known to its clients as KAFKA_HOST; /tls has ca.crt, tls.crt, tls.key.
set -eu
java=$(echo /usr/lib/jvm/java-17-openjdk-*/bin/java)
umask 077
cat /tls/tls.key /tls/tls.crt > /tmp/keystore.pem
cat > /tmp/server.properties <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:9094
listeners=SSL://:9093,CONTROLLER://127.0.0.1:9094
advertised.listeners=SSL://$KAFKA_HOST:9093
listener.security.protocol.map=SSL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SSL
controller.listener.names=CONTROLLER
ssl.keystore.type=PEM
ssl.keystore.location=/tmp/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location=/tls/ca.crt
log.dirs=/data/kafka
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
END
options='-Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp /opt/kafka/*'
set -f  # the star is Java's
[ -s /data/kafka/meta.properties ] || "$java" $options kafka.tools.StorageTool format -t c29tYS1lMmUtY2x1c3Rlcg -c /tmp/server.properties
exec "$java" $options kafka.Kafka /tmp/server.properties
