"""Real processes: a script under ``ecolyzer-instrument``, its output in files, its meter found by PID."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.environment import clean
from support.processes import Program
from support.scrape import Scrape, get
from support.waiting import PATIENCE, until

LAUNCHER = str(Path(sys.executable).with_name("ecolyzer-instrument"))

#: A small framework of its own, instrumented as a third party would: by the public wrapper factory.
ENGINE = """
import os, sys, threading, time
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf

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

    def wait_for(self, text: str, where: str = "stdout", seconds: float = PATIENCE) -> str:
        program = Program("the service", self.process, self.out, self.err)
        grace = 10.0 if where == "stderr" else 0.0  # its meter may write to stderr after its end
        until(lambda: text in getattr(self, where), f"{text!r} on {where}", program, seconds=seconds, grace=grace)
        return getattr(self, where)

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)

    def metrics_url(self) -> str:
        # The last one: a meter that was started again has a port of its own where it may choose.
        return re.findall(r"http://\S+/metrics", self.wait_for("/metrics", "stderr"))[-1]

    def scrape(self) -> Scrape:
        return Scrape(get(self.metrics_url()))

    def metrics(self) -> dict[str, float]:
        """Values by name and labels as written."""
        return self.scrape().written

    def total(self, name: str, *parts: str) -> float:
        return self.scrape().total(name, *parts)

    def meter(self) -> psutil.Process:
        """The meter that serves this process."""
        self.wait_for("/metrics", "stderr")
        return next(
            meter for meter in meters() if f"ecolyzer-{self.process.pid}-" in " ".join(meter.info["cmdline"])
        )


def seconds_until_gone(process: psutil.Process, limit: float = PATIENCE) -> float:
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
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=clean(**(env or {})),
                cwd=tmp_path,
                # Where the tests run in the background of a script, SIGINT is ignored, and what they start inherits
                # it.
                preexec_fn=heeding_interrupts,
            )
        started.append(Service(process, out, err))
        return started[-1]

    yield start
    for service in started:
        # What was read at first: asked again, one that has ended since is an error.
        left = [one for one in meters() if f"ecolyzer-{service.process.pid}-" in " ".join(one.info["cmdline"])]
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGKILL)
            service.process.wait(PATIENCE)
        for meter in left:
            seconds_until_gone(meter, 5.0)
