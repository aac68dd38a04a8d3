# bertkit on a CPU, or on NVIDIA GPUs with --build-arg DEVICE=cuda; not built by this project's tests, only linted.
#   docker build -t bertkit . && docker run --rm -v "$PWD:/work" bertkit train sentiment --train reviews.csv
# On a CPU, PIP_EXTRA_INDEX_URL may name an index that has torch without CUDA's libraries, which saves several GB.
# EXTRAS are those of pyproject.toml, such as [explain,adapters].
ARG DEVICE=cpu

FROM python:3.12-slim AS cpu

FROM pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime AS cuda

# hadolint ignore=DL3006 the stage above that DEVICE names
FROM ${DEVICE}
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS
COPY pyproject.toml README.md LICENSE /src/
COPY bertkit /src/bertkit
COPY recipes /src/recipes
RUN pip install --no-cache-dir "/src${EXTRAS}" && useradd --create-home --uid 1000 bertkit
USER 1000
WORKDIR /work
ENTRYPOINT ["bertkit"]
