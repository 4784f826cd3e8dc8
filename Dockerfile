# syntax=docker/dockerfile:1
# Stage 1 builds the wheel with both native modules; stage 2 has only the interpreter and what the wheel needs.
FROM python:3.12-slim-bookworm AS builder
# rustc-web is this Debian release's current compiler; its rustc is too old for the core.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential rustc-web cargo-web \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY rust ./rust
COPY cext ./cext
COPY python ./python
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="hotswap-proxy" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels hotswap-proxy \
    && useradd --system --uid 10001 --home-dir /data --no-create-home hotswap \
    && install -d -o hotswap -g hotswap -m 0700 /data
USER hotswap
WORKDIR /data
VOLUME /data
ENV PYTHONUNBUFFERED=1 \
    HOTSWAP_DATA_DIR=/data \
    HOTSWAP_PROXY=0.0.0.0:8000 \
    HOTSWAP_ADMIN=127.0.0.1:5000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['HOTSWAP_ADMIN'].rpartition(':')[2] + '/api/v1/gateway/health', timeout=2)"]
# The control process is made to be PID 1: it drains on SIGTERM (up to 30 s), and workers whose spawner died become
# its children, which it reaps.
STOPSIGNAL SIGTERM
ENTRYPOINT ["hotswap-proxy"]
CMD ["run"]
