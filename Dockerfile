# The image of every node of a cluster: Ray, this project, PyTorch for CPUs or for GPUs.
#   docker build -t lstm-tune .
#   docker build -t lstm-tune:gpu --build-arg DEVICE=cu126 .      (DEVICE as pytorch.org names it)
FROM python:3.11-slim

# KubeRay's probes call wget.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/lstm-tune
COPY constraints.txt ./
ARG DEVICE=cpu
# Without its requirements: that index does not have the versions in constraints.txt.
RUN pip install --no-cache-dir --no-deps --constraint constraints.txt \
    --index-url https://download.pytorch.org/whl/${DEVICE} torch
COPY pyproject.toml README.md ./
COPY lstmcls lstmcls
COPY search_spaces search_spaces
COPY tune tune
RUN pip install --no-cache-dir --constraint constraints.txt '.[cluster]'

# No Ray without a token, and nothing of it as root.
ENV RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RUN useradd --uid 1000 --create-home ray && install --directory --owner=ray /shared
USER ray
WORKDIR /shared
