"""The service and its meter: start, wait until up, stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo_parts.common import SERVICE, DemoError, fetch, wait_for

EXAMPLES = Path(__file__).resolve().parent.parent
STARTUP_SECONDS = 60.0


def free_port(wanted: int = 0) -> int:
    """``wanted`` if it is free, else any free port of loopback."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(receiver_port: int) -> dict[str, str]:
    """The environment of the service, without settings of OpenTelemetry and ecolyzer for other services."""
    kept = {"ECOLYZER_ZONE", "ECOLYZER_PUE", "ECOLYZER_WUE", "ECOLYZER_QUANTIZATION", "ECOLYZER_SENSORS"}
    ours = {
        key: value
        for key, value in os.environ.items()
        if key in kept or not key.startswith(("OTEL_", "ECOLYZER_", "PYTHONPATH"))
    }
    return ours | {
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@contextmanager
def service(port: int, meter_port: int, receiver_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``serve.py`` under ``ecolyzer-instrument``; stop it and its meter when the block is left."""
    zone = os.environ.get("ECOLYZER_ZONE", "FR")
    launcher = [
        str(Path(sys.executable).with_name("ecolyzer-instrument")),
        "--zone",
        zone,
        "--port",
        str(meter_port),
    ]
    command = [*launcher, sys.executable, str(EXAMPLES / "serve.py"), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(
            command, env=environment(receiver_port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield running
        except DemoError as error:
            log.seek(max(0, log.tell() - 4000))
            output = log.read().decode(errors="replace").strip()
            raise DemoError(f"{error}\n--- output of the service:\n{output}" if output else str(error)) from None
        finally:
            stop(running, meter_port)


def stop(running: subprocess.Popen[bytes], meter_port: int) -> None:
    """Send SIGTERM, then wait for the service, and for the meter, which ends after the service."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the cleanup
    if running.poll() is None:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(15)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise DemoError("the service did not end within 15 s of SIGTERM") from None
    wait_for(lambda: not is_listening(meter_port), 15, lambda: f"the meter still listens on port {meter_port}")


def wait_until_up(running: subprocess.Popen[bytes], port: int, meter_port: int) -> dict[str, Any]:
    """Wait for the service and its meter; returns the meter's ``/healthz``."""

    def up() -> bool:
        if running.poll() is not None:
            raise DemoError(f"the service ended at once with status {running.returncode}")
        return is_listening(port) and is_listening(meter_port)

    wait_for(up, STARTUP_SECONDS, lambda: f"the service did not come up within {STARTUP_SECONDS:.0f} s")
    fetch(port, "GET", "/")
    health: dict[str, Any] = json.loads(fetch(meter_port, "GET", "/healthz"))
    return health


def endpoints(port: int, host: str = "127.0.0.1") -> list[str]:
    """The paths that the service lists; models may be missing."""
    listed = json.loads(fetch(port, "GET", "/", host))
    return [path for method, path in map(str.split, listed) if method == "POST"]
