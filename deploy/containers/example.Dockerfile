# syntax=docker/dockerfile:1
# The example service with its meter. docker-compose.yml builds it; by hand, from the project's root:
#
#   docker build -f deploy/containers/example.Dockerfile -t ecolyzer-example .
#   docker run --rm --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -p 127.0.0.1:8000:8000 -p 127.0.0.1:9465:9465 -e ECOLYZER_ZONE=FR ecolyzer-example
#
# --build-arg FULL=1 adds PyTorch and a text model.

FROM python:3.12-slim AS build
ARG FULL=0
WORKDIR /src
RUN python -m venv /opt/ecolyzer
ENV PATH=/opt/ecolyzer/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
# 25.1 is the first that knows --group.
RUN --mount=type=cache,target=/root/.cache/pip pip install 'pip>=25.1'
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY ecolyzer_otel ecolyzer_otel
COPY integrations integrations
RUN --mount=type=cache,target=/root/.cache/pip \
    if [ "$FULL" = 1 ]; then pip install . --group demo --group full; else pip install . --group demo; fi \
 # The code of one needs PyTorch and its ONNX file, which is what is used, does not; the other asks for the OpenCV with
 # windows, which needs libraries that a slim image lacks.
 && pip install --no-deps silero-vad==6.2.3 "rapidocr-onnxruntime>=1.4"

FROM python:3.12-slim
ARG FULL=0
RUN groupadd --gid 10001 example \
 && useradd --uid 10001 --gid example --no-create-home --home-dir /tmp --shell /usr/sbin/nologin example
COPY --from=build /opt/ecolyzer /opt/ecolyzer
COPY examples /srv/examples
WORKDIR /srv
# 0.0.0.0: within the container's own network; which addresses of the host lead there is said with -p.
ENV PATH=/opt/ecolyzer/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 ECOLYZER_HOST=0.0.0.0 ECOLYZER_CACHE=none FULL=$FULL
USER 10001:10001
EXPOSE 8000 9465
HEALTHCHECK --interval=10s --timeout=8s --start-period=90s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; [u.urlopen(f'http://127.0.0.1:{p}', timeout=2) for p in ('8000/', '9465/healthz')]"]
# The launcher is PID 1: it stays, forwards signals, reaps, and lets the meter finish.
CMD ["ecolyzer-instrument", "python", "examples/serve.py"]
