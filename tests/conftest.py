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


#: The files that take longest, waiting and working ones in turn: begun first, so that no process has one left at
#: the end.
_FIRST = (
    "test_first_import", "test_servers", "test_sklearn_methods", "test_live", "test_protocol", "test_faults",
    "test_api", "test_agent", "test_torch_compile", "test_rules", "test_ledger_properties", "test_shares",
    "test_keras", "test_factors", "test_xgboost", "test_transformers_serve", "test_tensorflow", "test_life",
)  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In parallel, the longest files first; the order within a file stays."""
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(_FIRST)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
