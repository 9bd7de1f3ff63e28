"""The demo (``make demo``): the unchanged service of ``serve.py``, measured under real traffic.

Starts ``ecolyzer-instrument python examples/serve.py`` and an OTLP receiver, both on loopback; sends files, rows,
pictures, sounds and texts from four threads; then shows the figures of ``/metrics``, and the spans of each model as
an exporter receives them. Checks that the numbers add up, and ends with status 1 and a reason if they do not.

    DEMO_SECONDS=5        less traffic (default 30)
    FULL=1                where PyTorch is installed: the text model in three precisions
    DEMO=keep             keep running afterwards, until Ctrl-C
    ECOLYZER_ZONE=US-CA   another grid zone (default FR)
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from demo_parts import report
from demo_parts.common import DemoError
from demo_parts.receiver import Receiver
from demo_parts.service import endpoints, free_port, service, wait_until_up
from demo_parts.traffic import CLIENTS, Traffic


def requested_seconds() -> float:
    text = os.environ.get("DEMO_SECONDS") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise DemoError(f"DEMO_SECONDS: {text!r} is not valid; give seconds from 1 to 3600")
    return seconds


def demo() -> None:
    seconds = requested_seconds()
    port, meter_port = free_port(), free_port(9465)
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, args=(0.1,), daemon=True).start()
    with service(port, meter_port, receiver.server_port) as running:
        print("ecolyzer-instrument python examples/serve.py: loading its models", flush=True)
        health = wait_until_up(running, port, meter_port)
        print(f"  sensors: {health.get('sensors', '?')}")
        offered = endpoints(port)
        print(f"{CLIENTS} clients send to {', '.join(offered)} for {seconds:.0f} s", flush=True)
        sent = Traffic(port, seconds, offered).run()
        metrics = report.wait_until_settled(sent, meter_port, receiver)
        grid = next(metrics.get("ecolyzer_grid_carbon_intensity_grams_per_kwh"), ({"zone": "?"}, 0.0))
        where = f"zone {grid[0]['zone']}, {grid[1]:g} gCO2e/kWh"
        print(f"\nOne request of a model, on average ({report.methods(metrics)}; {where}):\n")
        print("\n".join(report.requests_table(metrics, receiver)))
        print("\nRequests:\n")
        print("\n".join(report.outcome_lines(metrics, sent, receiver)))
        print("\nWhere the joules went:\n")
        print("\n".join(report.ledger_lines(metrics)))
        print("\nThe same as spans:\n")
        print("\n".join(report.span_lines(receiver, metrics)))
        print("\nIt adds up: every request is accounted for and has its span; all joules agree to 1e-6.")
        if os.environ.get("DEMO") == "keep":
            keep(running, port, meter_port)
    receiver.shutdown()
    print("\nThe service and its meter have ended. Next:\n")
    print("  DEMO=keep make demo                            keeps running: see /metrics, /healthz and /docs")
    print("  .venv/bin/ecolyzer-instrument python yours.py  your own service; then open")
    print("                                                 http://127.0.0.1:9465/metrics and /healthz")


def keep(running: subprocess.Popen[bytes], port: int, meter_port: int) -> None:
    print(
        f"\nRunning until Ctrl-C:\n\n  http://127.0.0.1:{meter_port}/metrics\n  http://127.0.0.1:{meter_port}/healthz"
    )
    print(f"  http://127.0.0.1:{port}/docs\n", flush=True)
    try:
        while running.poll() is None:
            time.sleep(0.2)
    except KeyboardInterrupt:
        return
    raise DemoError(f"the service ended by itself with status {running.returncode}")


def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        demo()
    except KeyboardInterrupt:
        print("\ninterrupted; the service and its meter have ended", file=sys.stderr)
        return 130
    except (DemoError, OSError, http.client.HTTPException) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
