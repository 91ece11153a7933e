# Stand-in for apicurio/apicurio-registry:3.0.9 where it cannot be pulled: the same jars, the same variables, the same port.
FROM python:3.11-slim
COPY jvm /opt/jvm
COPY registry /opt/registry
RUN useradd --uid 1001 registry
USER 1001
WORKDIR /tmp
EXPOSE 8080
ENTRYPOINT ["/opt/jvm/bin/java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", "/opt/registry/*:/opt/registry/lib/*", \
            "io.quarkus.runner.GeneratedMain"]
