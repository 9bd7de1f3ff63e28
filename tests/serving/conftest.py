"""Real servers, as their users start them, with the launcher in front: on loopback, bounded in count and time."""

from __future__ import annotations

import collections
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import onnx
import psutil
import pytest
from support.environment import clean
from support.ports import free_port
from support.processes import Program
from support.scrape import Scrape, get
from support.waiting import PATIENCE, until

BIN = Path(sys.executable).parent
SERVICE = Path(__file__).with_name("service")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = onnx.numpy_helper.from_array(numpy.ones((4, 2), dtype=numpy.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "tiny",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 2])],
        [weights],
    )
    return save(graph, tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def heavy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that computes for some ten milliseconds."""
    weights = onnx.numpy_helper.from_array(numpy.full((512, 512), 1 / 512, dtype=numpy.float32), "w")
    names = ["x", *(f"h{n}" for n in range(19)), "y"]
    nodes = [onnx.helper.make_node("MatMul", [a, "w"], [b]) for a, b in itertools.pairwise(names)]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [64, 512]) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "heavy", ends[:1], ends[1:], [weights])
    return save(graph, tmp_path_factory.mktemp("model") / "heavy.onnx")


def save(graph: onnx.GraphProto, path: Path) -> Path:
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def recording(path: Path, watts: float, seconds: float, idle_watts: float = 0.0, **more: object) -> Path:
    """A CPU counter that grows at ``watts`` for so long and then stands still: what there is to share is known."""
    step = 0.02
    samples = [[round(n * step * 1e9), n * step * watts] for n in range(round(seconds / step) + 1)]
    sensor = {"id": "cpu", "component": "cpu", "method": "measured", "idle_watts": idle_watts, "samples": samples}
    path.write_text(json.dumps({"sensors": [sensor | more]}))
    return path


class Metrics(Scrape):
    """One look at the metrics of a meter."""

    @classmethod
    def of(cls, port: int) -> Metrics:
        return cls(get(f"http://127.0.0.1:{port}/metrics"))

    @property
    def settled(self) -> int:
        return int(self.total("ecolyzer_requests_total"))

    @property
    def accounted(self) -> int:
        """Requests that are told of in any way."""
        names = ("requests_total", "unsettled_requests_total", "dropped_requests_total", "pending_requests")
        return int(sum(self.total(f"ecolyzer_{name}") for name in names))

    def shares(self, device: str = "") -> dict[str, float]:
        part = f'device="{device}' if device else ""
        names = ("requests", "process", "host", "idle")
        found = {name: self.total("ecolyzer_device_energy_joules_total", f'share="{name}"', part) for name in names}
        return found | {"pending": self.total("ecolyzer_device_energy_pending_joules", part)}

    def assert_requests_close(self) -> None:
        """What the requests are told to have used is what the devices are told to have given them."""
        active = self.total("ecolyzer_energy_joules_total", 'share="active"')
        assert active == pytest.approx(self.shares()["requests"], rel=1e-6)


@dataclass
class Running:
    """A started command, its output, and the port of its metrics."""

    process: subprocess.Popen
    out: Path
    port: int
    http: int
    workers: collections.Counter = field(default_factory=collections.Counter)

    @property
    def output(self) -> str:
        return self.out.read_text(errors="replace")

    @property
    def program(self) -> Program:
        return Program("the service", self.process, self.out)

    def wait_until_up(self, seconds: float = PATIENCE) -> int:
        """Ask until the first answer; returns how many requests were answered: 1."""
        # One that has ended well by now has left a daemon.
        grace = seconds if self.process.poll() == 0 else 0.0
        return until(self.get, "the first answer", self.program, seconds=seconds, pause=0.1, grace=grace)

    def get(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/", timeout=PATIENCE) as answer:
            self.workers[int(answer.read())] += 1
        return 1

    def load(self, requests: int, threads: int = 4) -> int:
        """So many requests from so many clients; returns how many were answered. One refused is sent again."""
        answered: list[int] = []

        def client(count: int) -> None:
            for _ in range(count):
                for _ in range(100):
                    try:
                        answered.append(self.get())
                        break
                    except urllib.error.HTTPError:
                        raise
                    except OSError:  # a worker that is being replaced refuses before it has read anything
                        time.sleep(0.05)

        clients = [threading.Thread(target=client, args=(requests // threads,)) for _ in range(threads)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        return len(answered)

    def metrics(self) -> Metrics:
        return Metrics.of(self.port)

    def settled(self, expected: int, seconds: float = PATIENCE) -> Metrics:
        """The metrics once ``expected`` requests are settled; fails where it is another number in the end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self.metrics()
            except OSError:
                found = Metrics()
            if found.settled >= expected or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        time.sleep(0.3)  # none may come that is one too many
        found = self.metrics()
        told = {key: value for key, value in found.written.items() if "unsettled" in key or "dropped" in key}
        assert (found.settled, found.accounted) == (expected, expected), f"{told}\n{self.output}"
        return found

    def meter_lines(self) -> list[str]:
        """What each meter that came up said of itself."""
        return [line for line in self.output.splitlines() if line.startswith("ecolyzer: ") and " | http" in line]


def environment(model: Path, port: int, **more: str) -> dict[str, str]:
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    own = {"PATH": path, "MODEL_FILE": str(model), "ECOLYZER_PORT": str(port), "PYTHONPATH": str(SERVICE)}
    return clean(**own | more)


PLAIN = {"OTEL_PYTHON_DISTRO": "ecolyzer", "OTEL_PYTHON_CONFIGURATOR": "ecolyzer"}


@pytest.fixture
def serve(tmp_path: Path, model_file: Path):
    """``serve(command, ...)`` starts it under ``ecolyzer-instrument``, or ``front``; PORT is a free port."""
    started: list[Running] = []

    def start(
        command: list[str], *, front: str = "ecolyzer-instrument", env: dict[str, str] | None = None
    ) -> Running:
        http, port = free_port(), free_port()
        words = [word.replace("PORT", str(http)) for word in command]
        out = tmp_path / f"{len(started)}.out"
        extra = (PLAIN if front == "opentelemetry-instrument" else {}) | (env or {})
        with out.open("wb") as file:
            process = subprocess.Popen(
                [*([str(BIN / front)] if front else []), *words],
                env=environment(model_file, port, **extra), cwd=SERVICE, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        started.append(Running(process, out, port, http))
        return started[-1]

    yield start
    for one in started:
        for number, seconds in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 8.0)):
            try:
                os.killpg(one.process.pid, number)
                one.process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        assert not re.search(r"^Traceback", one.output, re.MULTILINE), one.output


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@dataclass
class Agent:
    """A started ``ecolyzer agent``."""

    process: subprocess.Popen
    out: Path
    port: int
    socket: Path

    @property
    def output(self) -> str:
        return self.out.read_text()

    @property
    def program(self) -> Program:
        return Program("the agent", self.process, self.out)

    def wait_until_up(self, seconds: float = PATIENCE) -> Agent:
        until(lambda: " | agent on " in self.output, "it listens", self.program, seconds=seconds)
        return self

    def metrics(self) -> Metrics:
        return Metrics.of(self.port)

    def health(self) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=PATIENCE) as answer:
            return json.load(answer)

    def settled(self, expected: int, *parts: str, seconds: float = PATIENCE) -> Metrics:
        until(
            lambda: self.metrics().total("ecolyzer_requests_total", *parts) >= expected,
            lambda: f"{expected} requests: {self.output}", seconds=seconds, pause=0.1,
        )  # fmt: skip
        time.sleep(1.2)  # none may come that is one too many; a page is up to a second old
        found = self.metrics()
        assert found.total("ecolyzer_requests_total", *parts) == expected, self.output
        return found


@pytest.fixture
def agent(tmp_path: Path, model_file: Path):
    started: list[Agent] = []

    def start(
        *options: str,
        path: Path | None = None,
        port: int | None = None,
        front: tuple[str, ...] = (),
        env=None,
        up=True,
    ) -> Agent:
        number = len(started)
        path = path or tmp_path / "agent.sock"
        port = port or free_port()
        place = ("--agent-socket", str(path), "--port", str(port))
        out = tmp_path / f"agent{number}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(
                [*front, str(BIN / "ecolyzer"), "agent", *place, *options],
                env=environment(model_file, 0) | {"ECOLYZER_PORT": ""} | (env or {}), stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path,
            )  # fmt: skip
        started.append(Agent(process, out, port, path))
        return started[-1].wait_until_up() if up else started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.process.wait(10)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        assert "Traceback" not in one.output
