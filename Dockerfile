# The app with its shipped weights, for a server of your own: docs/container.md.

# Debian 12 has Python 3.11.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends make python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/clickseg

# What pip takes by default computes on NVIDIA's GPUs, too, and is several gigabytes larger than a build for CPUs alone,
# which the index that pytorch.org names for those has.
ARG PIP_EXTRA_INDEX_URL=
COPY requirements.txt ./
RUN python3 -m venv .venv && .venv/bin/pip install --no-cache-dir -r requirements.txt

COPY Makefile pyproject.toml README.md LICENSE ./
COPY apps apps
# Whoever runs it, known here or not (--user), can write what the app writes; its code nobody can but root.
RUN PIP_NO_CACHE_DIR=1 make install PYTHON=python3 \
    && .venv/bin/python -m compileall -q apps \
    && install -d -m 1777 apps/clickseg/bin apps/clickseg/logs /home/clickseg /models

ENV PATH=/opt/clickseg/.venv/bin:$PATH \
    HOME=/home/clickseg \
    USER=clickseg \
    CLICKSEG_MODEL_DIR=/models \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
VOLUME /models
EXPOSE 8000
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/info/', timeout=20)"]
ENTRYPOINT ["clickseg", "serve", "--host", "0.0.0.0", "--port", "8000"]
