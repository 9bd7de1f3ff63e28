"""Readings of the launcher: the same clocks and counters that the meter reads later."""

from __future__ import annotations

import pytest

from ecolyzer_otel.boot.first_readings import take
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.ledger import Ledger, Record, SensorSpec
from ecolyzer_otel.meter.first_readings import apply
from ecolyzer_otel.sensors import HostCpu, discover


def test_the_hosts_clock_is_the_one_of_the_meter(tmp_path) -> None:
    host = HostCpu()
    if host.scope != "host":
        pytest.skip("this machine gives the tests a control group's clock")
    before = host.busy_seconds()
    early = take(str(tmp_path))
    # The launcher reads ticks of 10 ms, the meter maybe a finer clock: as much has passed on both.
    assert before - 0.02 <= host.from_proc_stat(early["busy"]) <= host.busy_seconds() + 0.02
    assert early["rapl"] == {}


def test_a_request_before_the_first_sample_of_the_meter_is_charged(tmp_path) -> None:
    zone = tmp_path / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000000")):
        (zone / name).write_text(text + "\n")
    early = take(str(tmp_path))
    (zone / "energy_uj").write_text("21000000\n")
    discovery = discover(Config(sysfs=str(tmp_path)))
    ledger = Ledger([SensorSpec(id="package-0", component="cpu")])
    apply(early, discovery, ledger)
    start = early["t_ns"]
    ledger.record(Record(id=1, pid=1, start_ns=start, end_ns=start + 1000, cpu_ns=500))
    ledger.sample("package-0", start + 1_000_000_000, discovery.sensors[0].read().joules)
    ledger.advance(start + 2_000_000_000)
    assert ledger.sensors["package-0"].shares.measured == pytest.approx(20.0)
    assert ledger.sensors["package-0"].shares.requests > 0
