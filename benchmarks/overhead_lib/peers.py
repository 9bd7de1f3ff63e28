"""Peers, used around one call as their documentation describes. Each imports its package when created."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from overhead_lib.variants import Spans, Variant

__all__ = ["Codecarbon", "Openlit", "Openllmetry", "Zeus"]

Call = Callable[[], Any]


class Codecarbon(Variant):
    def __init__(self) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.tracker = OfflineEmissionsTracker(
            country_iso_code="FRA", save_to_file=False, log_level="critical", allow_multiple_runs=True
        )
        self.tracker.start_task("first")
        self.tracker.stop_task()

    def around(self, call: Call) -> Call:
        start, stop = self.tracker.start_task, self.tracker.stop_task

        def run() -> Any:
            start()
            result = call()
            stop()
            return result

        return run


class Zeus(Variant):
    """Windows on a RAPL counter that is a file in memory, as a machine may lack RAPL: the minimum of its cost."""

    def __init__(self) -> None:
        from zeus.device.cpu import rapl

        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        zone = self.folder / "intel-rapl:0"
        zone.mkdir()
        for name, text in (
            ("name", "package-0"),
            ("energy_uj", "1000000"),
            ("max_energy_range_uj", "262143328850"),
        ):
            (zone / name).write_text(text + "\n")
        rapl.RAPL_DIR = str(self.folder)
        from zeus.monitor import ZeusMonitor

        self.monitor = ZeusMonitor(gpu_indices=[])

    def around(self, call: Call) -> Call:
        begin, end = self.monitor.begin_window, self.monitor.end_window

        def run() -> Any:
            begin("inference", sync_execution=False)
            result = call()
            end("inference", sync_execution=False)
            return result

        return run

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class _Patching(Spans):
    """A peer that patches the text-generation pipeline only."""

    def ready(self) -> None:
        from transformers import TextGenerationPipeline

        self._kind: Any = TextGenerationPipeline
        self._old = vars(self._kind)["__call__"]
        self.instrument()
        self._new = vars(self._kind)["__call__"]
        if self._new is self._old:
            raise RuntimeError("nothing was patched")

    def instrument(self) -> None:
        raise NotImplementedError

    def switch(self, on: bool) -> None:
        self._kind.__call__ = self._new if on else self._old


class Openlit(_Patching):
    def instrument(self) -> None:
        import openlit

        openlit.init(disable_metrics=True, disable_events=True)


class Openllmetry(_Patching):
    def instrument(self) -> None:
        from opentelemetry.instrumentation.transformers import TransformersInstrumentor

        TransformersInstrumentor().instrument()
