"""Worker processes: start, cores, commands. Only one of them works at a time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from overhead_lib.variants import VariantInfo

__all__ = ["Failed", "Place", "Process"]

BENCHMARKS: Final = Path(__file__).parents[1]
#: One thread per worker, so that the CPU of the caller is that of the call; no downloads, no output.
_SETTINGS: Final = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore",
    "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "none",
    "TRACELOOP_TELEMETRY": "false", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
}  # fmt: skip


class Failed(Exception):
    """A worker could not start or failed a command; the text has the reason."""


class Place(NamedTuple):
    """Cores of the workers, and of all else (meters, this process); None: not pinned."""

    worker: int | None
    rest: int | None

    @classmethod
    def choose(cls, worker: int | None, rest: int | None, *, pin: bool) -> Place:
        """Choose the cores, by default the first for workers and the last for the rest, and pin this process."""
        cores = sorted(os.sched_getaffinity(0))
        if not pin:
            return cls(None, None)
        place = cls(cores[0] if worker is None else worker, cores[-1] if rest is None else rest)
        os.sched_setaffinity(0, {place.rest})
        return place


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _environment(info: VariantInfo) -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OTEL_", "ECOLYZER_", "PYTHONPATH", "TRACELOOP_", "OPENLIT_"))
    }
    sampling = {}
    if info.sampled is not None:
        sampling = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": info.sampled}
    return kept | _SETTINGS | sampling


class Process:
    """A started worker. :meth:`wait` waits for its first answer."""

    def __init__(
        self, info: VariantInfo, workloads: Sequence[str], place: Place, python: str = sys.executable
    ) -> None:
        self.info = info
        self.workloads = tuple(workloads)
        self.url = ""
        command = [python, "-m", "overhead_lib.worker", info.name, ",".join(workloads)]
        if place.worker is not None:
            command += ["--core", str(place.worker)]
        if info.sampled is not None:
            command.append("--exported")
        if info.launched:
            port = _free_port()
            self.url = f"http://127.0.0.1:{port}/metrics"
            launcher = "import sys; from ecolyzer_otel.cli.instrument import main; main(sys.argv[1:])"
            command = [sys.executable, "-c", launcher, "--port", str(port), "--zone", "FR", *command]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            cwd=BENCHMARKS, env=_environment(info),
        )  # fmt: skip

    def wait(self) -> Any:
        """Wait for the next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no output"])[-1]
            raise Failed(f"ended with status {self._process.returncode}: {last[:200]}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a command; returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self.wait()

    def meter_seconds(self) -> float | None:
        """CPU seconds of its meter so far; None without a meter."""
        if not self.url:
            return None
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("ecolyzer_meter_cpu_seconds_total"):
                    return float(line.split()[1])
        return None

    def end(self) -> None:
        """Close its input, which ends the worker and its meter."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(15)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._errors.close()
