"""Measuring in this process, against a recording; each test with meters that no other test's or user's count."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from measured import recording
from support import environment

import ecolyzer_otel

environment.use_own()
# How long an example takes is the machine's business.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    environment.be_alone()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a Unix socket's (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="eco-") as folder:
        yield Path(folder)


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
