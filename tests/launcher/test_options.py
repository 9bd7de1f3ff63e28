"""Bad input gives one clear line that names the key and the remedy; the service starts all the same."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import PATIENCE, until

from ecolyzer_otel.config import OPTIONS, Config

from .conftest import ENGINE, LAUNCHER

SERVE = "print('served')"

BAD = {
    "unknown option": (["--prot", "9000"], {}, "--prot", "--port"),
    "bad number": (["--pue", "abc"], {}, "--pue", "number"),
    "number out of range": (["--pue", "0.5"], {}, "--pue", "from 1 to"),
    "bad variable": ([], {"ECOLYZER_WUE": "much"}, "ECOLYZER_WUE", "number"),
    "bad zone": (["--zone", "france"], {}, "--zone (ECOLYZER_ZONE)", "FR"),
    "bad period": (["--sampling-period", "0"], {}, "--sampling-period", "from 0.005"),
    "bad level": (["--log-level", "loud"], {}, "--log-level", "one of"),
    "missing recording": (["--sensors", "replay:/nowhere.json"], {}, "sensors", "/nowhere.json"),
    "bad host": (["--host", "256.1.1.1"], {}, "--host (ECOLYZER_HOST)", "another"),
}


def _ours(service) -> list[str]:
    return [line for line in service.stderr.splitlines() if line.startswith("ecolyzer: ")]


@pytest.mark.parametrize("case", BAD)
def test_one_line_names_key_and_remedy_and_the_service_starts(launch, case):
    options, env, key, remedy = BAD[case]
    if case == "unknown option":
        options = ["--prot=9000"]
    service = launch(SERVE + "; import time; time.sleep(1.5)", *options, env=env)
    service.wait_for(" | ", "stderr")
    assert service.wait() == 0
    assert service.stdout == "served\n"
    lines = [line for line in _ours(service) if " | " not in line]
    assert len(lines) == 1, lines
    assert key in lines[0]
    assert remedy in lines[0]


@pytest.mark.parametrize("case", BAD)
def test_strict_refuses_to_start(launch, case):
    options, env, key, _ = BAD[case]
    if case == "unknown option":
        options = ["--prot=9000"]
    service = launch(SERVE, "--strict", *options, env=env)
    assert service.wait() == 2
    assert service.stdout == ""
    assert any(key in line for line in _ours(service))


def test_strict_with_nothing_wrong_starts(launch):
    service = launch(SERVE, "--strict", "--zone", "aws:eu-central-1")
    assert service.wait() == 0
    assert service.stdout == "served\n"
    assert "DE (Germany)" in service.stderr


def test_a_port_in_use_is_named_and_measuring_goes_on(launch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = launch(SERVE + "; import time; time.sleep(1.5)", "--port", str(port))
        service.wait_for(" | ", "stderr")
        assert service.wait() == 0
    problem, line = _ours(service)
    assert "--port (ECOLYZER_PORT)" in problem
    assert str(port) in problem
    assert "no /metrics" in line


def test_a_sensor_that_may_not_be_read_is_told_apart_from_one_that_is_not_there(launch, tmp_path):
    zone = tmp_path / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("1000000\n")
    (zone / "energy_uj").write_text("5\n")
    (zone / "energy_uj").chmod(0)
    command = [sys.executable, "-c", SERVE + "; import time; time.sleep(2)"]
    # Root reads everything by two capabilities; without them it is refused like anybody else.
    setpriv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [LAUNCHER, "--port", "0", "--sysfs", str(tmp_path / "sys"), *command]
    service = launch("", bare=True, command=[*setpriv, *command] if os.geteuid() == 0 else command)
    service.wait_for(" | ", "stderr")
    problem = next(line for line in _ours(service) if " | " not in line)
    assert "RAPL" in problem
    assert "permission" in problem
    assert "root" in problem
    assert "modelled from" in service.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([LAUNCHER, *arguments], capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_a_missing_command_is_named():
    done = _run("--port", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("ecolyzer: CMD: is missing")


def test_a_command_that_is_not_there_gives_127():
    done = _run("no-such-command-anywhere")
    assert done.returncode == 127
    assert "no-such-command-anywhere" in done.stderr


def test_a_command_that_is_not_executable_gives_126(tmp_path):
    (tmp_path / "serve.py").write_text("print(1)")
    done = _run(str(tmp_path / "serve.py"))
    assert done.returncode == 126
    assert f"python {tmp_path}/serve.py" in done.stderr


def test_help_names_every_option():
    from ecolyzer_otel.config import OPTIONS

    done = _run("--help")
    assert done.returncode == 0
    assert all(option.flag in done.stdout for option in OPTIONS)


def test_flags_win_over_variables_and_variables_over_the_file(launch, tmp_path):
    (tmp_path / "conf.toml").write_text('zone = "PL"\npue = 1.7\nwue = 0.4\n')
    env = {"ECOLYZER_CONFIG": str(tmp_path / "conf.toml"), "ECOLYZER_ZONE": "SE", "ECOLYZER_PUE": "1.3"}
    service = launch("import time; time.sleep(240)", "--zone", "FR", env=env)
    metrics = service.metrics()
    assert metrics['ecolyzer_grid_carbon_intensity_grams_per_kwh{zone="FR",source="OWID/Ember"}'] == 44.18
    assert metrics['ecolyzer_pue_ratio{zone="FR",source="configured"}'] == 1.3
    assert metrics['ecolyzer_wue_liters_per_kwh{zone="FR",source="configured"}'] == 0.4


def test_tables_of_the_file(launch, tmp_path):
    (tmp_path / "conf.toml").write_text(
        'zone = "FR"\nmarket_factor = 12\nmarket_source = "PPA"\nlifetime = 4\nreserved = 0.5\n'
        'quantization = { int8 = 0.3, "*" = 1 }\nembodied = { server = 1000 }\n'
    )
    env = {"ECOLYZER_CONFIG": str(tmp_path / "conf.toml")}
    service = launch("import time; time.sleep(240)", "--strict", env=env)
    metrics = service.metrics()
    assert metrics['ecolyzer_market_factor_grams_per_kwh{zone="FR",source="PPA"}'] == 12.0
    assert service.total("ecolyzer_embodied_grams_per_second") == pytest.approx(1e6 * 0.5 / (4 * 365 * 86400))


def test_a_flag_that_takes_pairs_reaches_the_workers_as_written(launch):
    code = ENGINE + "\nfor _ in range(5): engine.infer(0.001)\nprint('done', flush=True)\ntime.sleep(240)"
    service = launch(code, "--model-names", "eng*=renamed,other=thing")
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total", 'model="renamed"') >= 5, service.metrics)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_in_the_readme_and_reads_back_as_spelled(option):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = [line for line in readme.splitlines() if line.startswith((f"| `{option.flag} ", f"| `{option.flag}`"))]
    assert len(rows) == 1
    assert f"| `{option.variable}` |" in rows[0]
    value = getattr(Config(), option.name)
    if value not in (None, ()):
        assert option.parse(option.spell(value)) == value


def test_pairs_read_back_as_spelled():
    by_name = {option.name: option for option in OPTIONS}
    for name, text in (("embodied", "server=900,gpu=auto"), ("lifetime", "4"), ("lifetime", "server=4,gpu=3")):
        option = by_name[name]
        assert option.spell(option.parse(text)) == text
