# One image for every role: `docker run campaign-bridge python -m services.ingress.reader`. Target `sandbox` adds the stand-ins for demo and tests.
FROM python:3.11-slim AS build
COPY requirements.lock /
RUN python3.11 -m venv /opt/bridge \
 && /opt/bridge/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
      --requirement /requirements.lock \
 && /opt/bridge/bin/pip uninstall --yes --quiet pip setuptools

FROM python:3.11-slim AS base
RUN useradd --uid 10001 --user-group --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin bridge \
 && install --directory --owner 10001 --group 10001 --mode 700 /var/lib/bridge
COPY --from=build /opt/bridge /opt/bridge
WORKDIR /app
COPY LICENSE ./
COPY schemas schemas
COPY bridge bridge
COPY services services
COPY cli cli
RUN /opt/bridge/bin/python -m compileall -q /app
ENV PATH=/opt/bridge/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIR=/var/lib/bridge METRICS_HOST=0.0.0.0 METRICS_PORT=9100 HEALTH_URL=http://127.0.0.1:9100/healthz
VOLUME /var/lib/bridge
USER 10001:10001
STOPSIGNAL SIGTERM
# It asks this very container: no proxy, and a certificate of whatever name. Of control: HEALTH_URL=http://127.0.0.1:8080/healthz
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 CMD ["python", "-c", "import os, ssl, urllib.request as r; \
r.build_opener(r.ProxyHandler({}), r.HTTPSHandler(context=ssl._create_unverified_context())).open(os.environ['HEALTH_URL'], timeout=4)"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Campaign Bridge" \
      org.opencontainers.image.description="Keeps Microsoft Dynamics 365 and Adobe Campaign Standard in step, over Apache Kafka." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

FROM base AS sandbox
COPY sandbox sandbox
USER 0
RUN install --directory --owner 10001 --group 10001 --mode 700 /var/lib/sandbox-sftp
USER 10001:10001

FROM base AS bridge
CMD ["python", "-m", "services.control"]
