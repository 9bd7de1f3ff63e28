"""Measuring in this process, against a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from measured import recording

import ecolyzer_otel


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``start(**options)`` measures from a recording of 50 W until the test ends."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    file = recording(tmp_path / "recorded.json")

    def begin(**options: Any) -> Any:
        given = {"port": 0, "sensors": f"replay:{file}", "sampling_period": 0.02, "zone": "FR", **options}
        return ecolyzer_otel.start(**given)

    ecolyzer_otel.stop()
    yield begin
    ecolyzer_otel.stop()
