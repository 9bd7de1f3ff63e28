"""Where the GIL is off, one clear line says so, and nothing else changes."""

from __future__ import annotations

import logging
import sys

import pytest

from ecolyzer_otel.boot.activation import activate
from ecolyzer_otel.worker import gil
from ecolyzer_otel.worker.state import replace_state


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gil, "_warned", False)


def without_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)


def test_with_the_gil_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gil.warn_if_free_threaded()
    assert caplog.records == []


def test_without_the_gil_activation_logs_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    without_gil(monkeypatch)
    for _ in range(2):
        replace_state(None)
        with caplog.at_level(logging.WARNING):
            activate()
    replace_state(None)
    (record,) = (record for record in caplog.records if "GIL" in record.getMessage())
    assert "PYTHON_GIL=1" in record.getMessage()


def test_a_build_that_has_enabled_its_gil_counts_as_one_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert not gil.is_free_threaded()
