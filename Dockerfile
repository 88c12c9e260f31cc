# The gateway alone, without privileges. Its configuration is mounted, its data has one volume:
#
#   docker build --tag tallygate .
#   docker run --read-only --volume tallygate-data:/data --publish 8080:8080 \
#       --volume ./gateway.yaml:/config/gateway.yaml:ro tallygate
#
# In that file: listeners.proxy 0.0.0.0:8080, listeners.admin 127.0.0.1:8081, data_dir /data.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml ./
COPY gateway ./gateway
RUN python -m venv /opt/tallygate && /opt/tallygate/bin/pip install '.[postgres,redis]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tallygate \
    && install --directory --owner=tallygate --group=tallygate --mode=0700 /data /archive
COPY --from=build /opt/tallygate /opt/tallygate
# SQLite's temporary files belong on the volume too: nothing else can be written.
ENV PATH=/opt/tallygate/bin:$PATH \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data SQLITE_TMPDIR=/data \
    TALLYGATE_CONFIG=/config/gateway.yaml \
    ADMIN_PORT=8081
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['ADMIN_PORT'] + '/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tallygate", "serve", "--config", "/config/gateway.yaml"]
