"""The stack of docker-compose.yml without containers: the same files, with addresses on loopback in them.

Real servers: the example service under ``ecolyzer-instrument`` on a played machine, Debian's Prometheus and
Alertmanager, the webhook receiver of the examples, and an OTLP receiver in the place of the Collector.

``make stack`` starts it for people, until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from support.environment import clean
from support.ports import free_ports
from support.processes import Program
from support.scrape import get
from support.waiting import AGES, until

from . import history
from .faults import grid_file
from .machine import Machine
from .tools import ROOT, read_yaml, tool

sys.path.insert(0, str(ROOT / "examples"))
from demo_parts.receiver import Receiver

SERVICE = "example"
#: Of these there are nine days, at so many joules per request.
KNOWN_MODELS = {"silero_vad": 0.015, "standard_v3_3": 2.0, "tiny-writer": 4.0}
BIN = Path(sys.executable).parent


class Stack:
    """Everything, from enter to exit. Addresses are host:port; ``output(name)`` is what a server wrote.

    Args:
        folder: where all that they write goes.
        per_request: the carbon budgets per request, such as one that no model keeps.
        per_month: and of a month, in grams.
        rate: requests per second in all.
    """

    def __init__(
        self, folder: Path, *, per_request: str = "*=1e-9", per_month: float = 0.001, rate: float = 12.0
    ) -> None:
        self.folder = folder
        self._budgets = {
            "ECOLYZER_CARBON_BUDGET_PER_REQUEST": per_request,
            "ECOLYZER_CARBON_BUDGET_PER_MONTH": str(per_month),
        }
        self._rate = rate
        names = ("service", "meter", "prometheus", "alertmanager", "notifications")
        self.at = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}
        self.machine = Machine(folder / "machine")
        self.receiver = Receiver()
        self.grid = folder / "grid.csv"
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def service(self) -> int:
        """PID of the service."""
        return self._started["service"].pid

    def output(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.out").read_text(errors="replace")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """What ``condition`` gives once that is true; fails where a process of the stack has ended."""
        programs = (Program(name, one, self.folder / f"{name}.out") for name, one in self._started.items())
        return until(condition, what, *programs, seconds=AGES, pause=0.25)

    def metrics(self) -> str:
        """The meter's page."""
        return get(f"http://{self.at['meter']}/metrics")

    def __enter__(self) -> Stack:
        (self.folder / "machine").mkdir()
        self.machine.__enter__()
        threading.Thread(target=self.receiver.serve_forever, args=(0.1,), daemon=True).start()
        # From here on there is something to stop. The receiver's shutdown waits for ever where it never ran.
        try:
            return self._start()
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> Stack:
        self._start_service()
        host, _, port = self.at["notifications"].partition(":")
        self._run("notifications", [sys.executable, "examples/notifications.py", "--host", host, "--port", port])
        self._start_alertmanager()
        self._start_prometheus()
        self.until(lambda: get(f"http://{self.at['service']}/"), "the service")
        for name in ("prometheus", "alertmanager"):
            self.until(lambda name=name: get(f"http://{self.at[name]}/-/ready"), name)
        rate = ["--rate", str(self._rate)]
        self._run("load", [sys.executable, "examples/load.py", "--url", f"http://{self.at['service']}", *rate])
        return self

    def _start_service(self) -> None:
        settings = {
            # What docker-compose.yml sets.
            **self._budgets,
            "ECOLYZER_PORT": self.at["meter"].partition(":")[2],
            "ECOLYZER_ZONE": "FR",
            # And what else there is to show.
            "ECOLYZER_GRID": grid_file(self.grid, "FR", 42.0),
            "ECOLYZER_MARGINAL": grid_file(self.folder / "marginal.csv", "FR", 400.0, "marginal"),
            "ECOLYZER_MARKET_FACTOR": "20",
            "ECOLYZER_EMBODIED": "server=1300,gpu=150",
            "ECOLYZER_LIFETIME": "4",
            "ECOLYZER_WUE": "0.3",
            "OTEL_SERVICE_NAME": SERVICE,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.receiver.server_port}",
            "OTEL_METRICS_EXPORTER": "none",
            "PORT": self.at["service"].partition(":")[2],
            # One model in three precisions.
            "FULL": "1",
        }
        command = [str(BIN / "ecolyzer-instrument"), *self.machine.options(), sys.executable, "examples/serve.py"]
        self._run("service", command, settings | self.machine.environment())

    def _start_alertmanager(self) -> None:
        file = self._copy("alertmanager", {"notifications:8080": self.at["notifications"]}) / "alertmanager.yml"
        self._run(
            "alertmanager",
            [
                tool("alertmanager"),
                f"--config.file={file}",
                f"--storage.path={self.folder / 'alerts'}",
                f"--web.listen-address={self.at['alertmanager']}",
                "--cluster.listen-address=",
            ],
        )

    def _start_prometheus(self) -> None:
        addresses = {
            "service:9465": self.at["meter"],
            "prometheus:9090": self.at["prometheus"],
            "alertmanager:9093": self.at["alertmanager"],
        }
        file = self._copy("prometheus", addresses) / "prometheus.yml"
        storage = self.folder / "prometheus-data"
        history.write(storage, self.at["meter"], SERVICE, KNOWN_MODELS)
        flags = [
            flag
            for flag in read_yaml("docker-compose.yml")["services"]["prometheus"]["command"]
            if not flag.startswith(("--config.file", "--storage.tsdb.path"))
        ]
        self._run(
            "prometheus",
            [
                tool("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={storage}",
                f"--web.listen-address={self.at['prometheus']}",
                *flags,
            ],
        )

    def _copy(self, name: str, addresses: dict[str, str]) -> Path:
        """The folder that compose mounts, with other addresses and nothing else changed."""
        target = self.folder / name
        shutil.copytree(ROOT / "grafana" / name, target)
        for path in target.glob("*.yml"):
            text = path.read_text()
            for old, new in addresses.items():
                assert old in text, f"{path.name} does not name {old}"
                text = text.replace(old, new)
            path.write_text(text)
        return target

    def _run(self, name: str, command: list[str], settings: dict[str, str] | None = None) -> None:
        with (self.folder / f"{name}.out").open("wb") as out:
            self._started[name] = subprocess.Popen(
                command, cwd=ROOT, env=clean(**(settings or {})), stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _stop(self) -> None:
        for name in ("load", "service", "prometheus", "alertmanager", "notifications"):
            process = self._started.get(name)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.receiver.shutdown()
        self.receiver.server_close()
        self.machine.__exit__(None, None, None)


def main() -> None:
    """Up until Ctrl-C or SIGTERM, with alerts on the terminal."""
    # SIGINT too: a shell's job in the background starts with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ecolyzer-stack-") as folder, contextlib.suppress(KeyboardInterrupt):
        print(
            "The stack starts; its GPU and energy counters are played, its nine days of history made up", flush=True
        )
        with Stack(Path(folder), per_request="*=0.0005", per_month=15_000.0, rate=8.0) as running:
            running.machine.gpu_load = 0.05
            for name, address in running.at.items():
                print(f"  {name:<14}http://{address}" + "/metrics" * (name == "meter"))
            print("Notifications, until Ctrl-C:", flush=True)
            told = 0
            while True:
                time.sleep(1.0)
                # Too hot for a while, every five minutes.
                running.machine.throttle(time.time() % 300 < 45)
                text = running.output("notifications")
                print(text[told:], end="", flush=True)
                told = len(text)


if __name__ == "__main__":
    main()
