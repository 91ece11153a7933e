# Stand-in for apache/kafka:4.1.0 where it cannot be pulled: the same jars, the same variables, the same user, the same volume.
FROM python:3.11-slim
COPY jvm /opt/jvm
COPY kafka /opt/kafka/libs
COPY kafka-entrypoint /
RUN useradd --uid 1000 appuser && install --directory --owner 1000 --group 1000 /var/lib/kafka/data
ENV PATH=/opt/jvm/bin:$PATH LOG_DIR=/tmp/kafka-logs
USER 1000
VOLUME /var/lib/kafka/data
EXPOSE 9092
ENTRYPOINT ["/kafka-entrypoint"]
