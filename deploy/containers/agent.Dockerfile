# The node agent as a container. From the project's root:
#
#   docker build -f deploy/containers/agent.Dockerfile -t ecolyzer-agent .
#   docker run -d --name ecolyzer-agent --restart unless-stopped --read-only \
#     --pid host --user 0:988 --cap-drop ALL --cap-add DAC_READ_SEARCH --security-opt no-new-privileges \
#     -v /run/ecolyzer:/run/ecolyzer -v /sys:/host/sys:ro \
#     -p 127.0.0.1:9465:9465 -e ECOLYZER_ZONE=DE ecolyzer-agent --sysfs=/host/sys
#
# --pid host: the kernel names workers by PID, and their containers are read from /proc/PID/cgroup. RAPL's counters are
# root's alone (CVE-2020-8694), a capability that is given to another user is lost when its program starts, and runtimes
# hide the counters under /sys itself: so root without root's powers but DAC_READ_SEARCH, and /host/sys. Without RAPL
# (virtual machines) leave --user and --cap-add out. NVIDIA GPUs: --gpus all -e NVIDIA_DRIVER_CAPABILITIES=utility.
# Services mount /run/ecolyzer and belong to its group (docker run --group-add 988, or supplementalGroups).

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY ecolyzer_otel ecolyzer_otel
COPY integrations integrations
RUN python -m venv /opt/ecolyzer && /opt/ecolyzer/bin/pip install --no-cache-dir '.[otlp]'

FROM python:3.12-slim
# The same number as the host's group ecolyzer: --build-arg GROUP_ID=$(getent group ecolyzer | cut -d: -f3)
ARG GROUP_ID=988
RUN groupadd --system --gid "$GROUP_ID" ecolyzer \
 && useradd --system --gid ecolyzer --no-create-home --shell /usr/sbin/nologin ecolyzer \
 && install -d -o ecolyzer -g ecolyzer -m 0755 /run/ecolyzer
COPY --from=build /opt/ecolyzer /opt/ecolyzer
ENV PATH=/opt/ecolyzer/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ECOLYZER_HOST=0.0.0.0
USER ecolyzer
EXPOSE 9465
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9465/healthz', timeout=2)"]
ENTRYPOINT ["ecolyzer", "agent"]
