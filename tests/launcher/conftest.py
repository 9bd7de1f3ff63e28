"""Real processes: a script under ``ecolyzer-instrument``, its output in files, its meter found by PID."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from processes import Program, wait_for

LAUNCHER = str(Path(sys.executable).with_name("ecolyzer-instrument"))

#: A small framework of its own, instrumented as a third party would: by the public wrapper factory.
ENGINE = """
import os, sys, threading, time
from ecolyzer_otel.wrap import CallSpec, ModelFacts, leaf

class Engine:
    def infer(self, seconds=0.0):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
        return "answer"

    def fail(self):
        raise KeyError("no such thing")

facts = lambda model: ModelFacts("engine", 1_000_000, "float32")
Engine.infer = leaf(Engine.infer, CallSpec("custom", "infer", facts))
Engine.fail = leaf(Engine.fail, CallSpec("custom", "fail", facts))
engine = Engine()
"""


def heeding_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Service:
    """A started process and where its output goes."""

    process: subprocess.Popen
    out: Path
    err: Path

    @property
    def stdout(self) -> str:
        return self.out.read_text()

    @property
    def stderr(self) -> str:
        return self.err.read_text()

    def wait_for(self, text: str, where: str = "stdout", seconds: float = 60.0) -> str:
        program = Program("the service", self.process, self.out, self.err)
        wait_for(
            lambda: text in getattr(self, where),
            f"{text!r} on {where}",
            program,
            seconds=seconds,
            # Its meter may write to stderr after its end.
            grace=10.0 if where == "stderr" else 0.0,
        )
        return getattr(self, where)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(seconds)

    def metrics_url(self) -> str:
        # The last one: a meter that was started again has a port of its own where it may choose.
        return re.findall(r"http://\S+/metrics", self.wait_for("/metrics", "stderr"))[-1]

    def metrics(self) -> dict[str, float]:
        """Samples of the classic exposition, by name and labels as written."""
        with urllib.request.urlopen(self.metrics_url(), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def total(self, name: str, *parts: str) -> float:
        """Sum of the samples of ``name`` whose labels hold every part."""
        found = self.metrics().items()
        return sum(v for k, v in found if k.partition("{")[0] == name and all(part in k for part in parts))

    def meter(self) -> psutil.Process:
        """The meter that serves this process."""
        self.wait_for("/metrics", "stderr")
        return next(meter for meter in meters() if f"ecolyzer-{self.process.pid}-" in " ".join(meter.cmdline()))


def seconds_until_gone(process: psutil.Process, limit: float = 10.0) -> float:
    """How long a process goes on. A zombie is gone: when its new parent reaps it is not ours to say."""
    began = time.monotonic()
    while time.monotonic() - began < limit:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                break
        except psutil.NoSuchProcess:
            break
        time.sleep(0.01)
    return time.monotonic() - began


def meters() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[-1] == "ecolyzer-meter":
            found.append(process)
    return found


@pytest.fixture
def launch(tmp_path):
    """``launch(code, *options)`` starts a script under the launcher; ``bare=True`` without."""
    started: list[Service] = []

    def start(
        code: str, *options: str, bare: bool = False, env: dict[str, str] | None = None, command=None
    ) -> Service:
        number = len(started)
        script, out, err = (tmp_path / f"{number}.{kind}" for kind in ("py", "out", "err"))
        script.write_text(code)
        command = command or [sys.executable, str(script)]
        if not bare:
            command = [LAUNCHER, "--port", "0", *options, *command]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ECOLYZER_", "OTEL_"))}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=clean | (env or {}),
                cwd=tmp_path,
                # Where the tests run in the background of a script, SIGINT is ignored, and what they start inherits
                # it.
                preexec_fn=heeding_interrupts,
            )
        started.append(Service(process, out, err))
        return started[-1]

    yield start
    for service in started:
        left = [meter for meter in meters() if f"ecolyzer-{service.process.pid}-" in " ".join(meter.cmdline())]
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGKILL)
            service.process.wait(10)
        for meter in left:
            seconds_until_gone(meter, 5.0)
