"""``ipmitool dcmi power reading``, with a program of that name in PATH."""

from __future__ import annotations

import time

import pytest

from ecolyzer_otel.sensors import SensorError
from ecolyzer_otel.sensors.ipmi import open_ipmi

_SAID = """
    Instantaneous power reading:                   {watts} Watts
    Minimum during sampling period:                  8 Watts
    Maximum during sampling period:                480 Watts
    Average power reading over sample period:      215 Watts
    IPMI timestamp:                           Wed Nov 25 02:00:00 2026
    Sampling period:                          00000001 Seconds.
    Power reading state is:                   activated
"""


@pytest.fixture
def ipmitool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "ipmitool"

    def behave(said: str = "", *, error: str = "", status: int = 0) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(
            f"#!/bin/sh\n[ \"$*\" = 'dcmi power reading' ] || exit 9\n"
            f"cat <<'END'\n{said}\nEND\necho '{error}' >&2\nexit {status}\n"
        )
        fresh.chmod(0o755)
        fresh.replace(program)

    return behave


def test_power_of_the_server_is_integrated(ipmitool, clock):
    ipmitool(_SAID.format(watts=220))
    (server,), absences = open_ipmi(clock)
    assert absences == []
    assert (server.info.id, server.info.component) == ("server", "cpu")
    clock.advance(2.0)
    assert server.read().joules == pytest.approx(440.0)
    ipmitool(_SAID.format(watts=300))
    deadline = time.monotonic() + 60
    joules = 440.0
    while time.monotonic() < deadline:  # its thread asks again within a second
        clock.advance(1.0)
        before, joules = joules, server.read().joules
        if joules - before == pytest.approx(300.0):
            break
        time.sleep(0.05)
    assert joules - before == pytest.approx(300.0)
    server.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"error": "Could not open device at /dev/ipmi0: No such file or directory", "status": 1}, "permission"),
        ({"said": "DCMI request failed because: Invalid command (c1)", "status": 1}, "io"),
        ({"said": "nothing of the kind"}, "io"),
    ],
)
def test_what_fails_is_an_absence_with_the_programs_own_words(ipmitool, clock, answer, reason):
    ipmitool(**answer)
    sensors, (absence,) = open_ipmi(clock)
    assert (sensors, absence.reason) == ([], reason)
    assert "ipmitool" in str(absence)


def test_a_controller_that_stops_answering_is_an_error(ipmitool, clock):
    ipmitool(_SAID.format(watts=220))
    (server,), _ = open_ipmi(clock)
    ipmitool(error="timeout", status=1)
    error = None
    deadline = time.monotonic() + 60
    while error is None and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            server.read()
        except SensorError as raised:
            error = raised
    assert "timeout" in str(error)
    server.close()


def test_without_the_program(monkeypatch, tmp_path, clock):
    monkeypatch.setenv("PATH", str(tmp_path))
    sensors, (absence,) = open_ipmi(clock)
    assert (sensors, absence.reason, absence.expected) == ([], "absent", True)
