"""Factors under the launcher: live figures from a real server that comes and goes, places, second figures."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.waiting import until

from ecolyzer_otel.impact import resolve_place

from .conftest import ENGINE

TOKEN = "s3cret-of-the-grid"
#: Requests without end, each line of stdin another one; ends with the input.
SERVE = ENGINE + "\nprint('up', flush=True)\nwhile True:\n    engine.infer(0.005)\n    time.sleep(0.02)\n"
FEW = ENGINE + "\nfor _ in range(20): engine.infer(0.005)\nprint('done', flush=True)\ntime.sleep(240)\n"


class Grid:
    """A grid operator's API on loopback: answers what it is told to."""

    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, b"", 0
        self.tokens: list[str | None] = []
        grid = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                grid.asked += 1
                grid.tokens.append(self.headers.get("Authorization"))
                self.send_response(grid.status)
                self.send_header("Content-Length", str(len(grid.body)))
                self.end_headers()
                self.wfile.write(grid.body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/now"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tell(self, grams: float | str, **more: object) -> None:
        self.status, self.body = 200, json.dumps({"grams_per_kwh": grams, **more}).encode()


@pytest.fixture
def grid():
    one = Grid()
    yield one
    one.server.shutdown()
    one.server.server_close()


def intensity(service) -> tuple[float, str]:
    found = [
        (value, re.search('source="(.*?)"', key)[1])
        for key, value in service.metrics().items()
        if key.startswith("ecolyzer_grid_carbon_intensity_grams_per_kwh{")
    ]
    assert len(found) == 1, "one figure is in force"
    return found[0]


def test_a_live_figure_is_charged_survives_a_fault_of_its_source_and_gives_way_to_the_table(launch, grid):
    grid.tell(100.0, zone="DE", source="our utility", basis="direct_consumption")
    options = ("--zone", "DE", "--grid", grid.url, "--grid-refresh", "1", "--grid-max-age", "6", "--cache", "none")
    env = {"ECOLYZER_GRID_TOKEN": TOKEN, "OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    service = launch(SERVE, *options, env=env)

    def charged(grams: float) -> bool:
        return f'"ecolyzer.grid.grams_per_kwh": {grams}' in service.stdout

    service.wait_for("up")
    until(lambda: intensity(service) == (100.0, "127.0.0.1"))
    until(lambda: charged(100.0))
    assert set(grid.tokens) == {f"Bearer {TOKEN}"}

    grid.tell(300.0, zone="DE", source="our utility", basis="direct_consumption")
    until(lambda: intensity(service)[0] == 300.0)
    until(lambda: charged(300.0))

    grid.status, grid.body = 500, b"<html>sorry</html>"
    asked = grid.asked
    until(lambda: grid.asked > asked)
    assert intensity(service)[0] == 300.0, "stale while there is an error"
    until(lambda: intensity(service)[1] == "OWID/Ember")
    assert intensity(service)[0] == resolve_place("DE").grams_per_kwh
    until(lambda: charged(resolve_place("DE").grams_per_kwh))

    grid.tell(200.0, zone="DE", source="our utility", basis="direct_consumption")
    until(lambda: intensity(service) == (200.0, "127.0.0.1"))
    until(lambda: charged(200.0))

    metrics = service.metrics()
    joules = sum(v for k, v in metrics.items() if k.startswith("ecolyzer_energy_joules_total{"))
    grams = sum(v for k, v in metrics.items() if k.startswith("ecolyzer_co2e_grams_total{"))
    assert 100.0 < grams / joules * 3.6e6 < 345.0
    lost = ("ecolyzer_unsettled_requests_total", "ecolyzer_dropped_requests_total")
    assert sum(service.total(name) for name in lost) == 0, "no figure is lost"
    assert service.total("ecolyzer_grid_fetches_total", 'outcome="http_5xx"') >= 1
    service.process.terminate()
    service.wait()

    spans = service.stdout
    told = [float(one) for one in re.findall(r'"ecolyzer.grid.grams_per_kwh": ([\d.]+)', spans)]
    assert {100.0, 300.0, 200.0, resolve_place("DE").grams_per_kwh} <= set(told)
    assert '"ecolyzer.grid.basis": "direct_consumption"' in spans
    assert re.search(r'"ecolyzer.grid.time": "20\d\d-', spans)
    assert TOKEN not in spans + service.stderr
    assert service.stderr.count("http_5xx") + service.stderr.count("500") <= 3, "said once, not each time"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b'{"grams_per_kwh": NaN}', "bad_value"),
        (b'{"grams_per_kwh": -5}', "bad_value"),
        (b'{"grams_per_kwh": 20000}', "bad_value"),
        (b'{"grams_per_kwh": 20, "zone": "PL"}', "wrong_zone"),
        (b"<html>log in</html>", "not_json"),
        (b"[" * 2_000_000, "too_large"),
    ],
)
def test_an_answer_that_cannot_be_is_counted_and_the_table_is_used(launch, grid, answer, outcome):
    grid.body = answer
    service = launch(FEW, "--zone", "DE", "--grid", grid.url, "--cache", "none")
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_grid_fetches_total", f'outcome="{outcome}"') >= 1)
    until(lambda: service.total("ecolyzer_requests_total") == 20)
    assert intensity(service)[1] == "OWID/Ember"
    (line,) = [one for one in service.stderr.splitlines() if "--grid" in one]
    assert "ECOLYZER_GRID" in line


def test_an_expired_token_is_one_line_and_no_figure_is_lost(launch, grid):
    grid.status = 401
    env = {"ECOLYZER_ELECTRICITYMAPS_TOKEN": TOKEN}
    service = launch(
        FEW, "--zone", "DE", "--grid", "electricitymaps", "--grid-url", grid.url, "--cache", "none", env=env
    )
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total") == 20)
    until(lambda: "ECOLYZER_ELECTRICITYMAPS_TOKEN" in service.stderr)
    assert TOKEN not in service.stderr
    assert intensity(service)[1] == "OWID/Ember"
    time.sleep(1.0)
    assert grid.asked == 1, "it is not asked again with a token that it has refused"


def test_marginal_and_market_based_grams_are_figures_of_their_own(launch, tmp_path):
    (tmp_path / "moer.csv").write_text(f"time,gco2e_per_kwh,basis\n{time.time() - 60:.0f},800,marginal\n")
    options = ("--marginal", f"csv:{tmp_path / 'moer.csv'}", "--market-factor", "20", "--market-source", "wind PPA")
    service = launch(FEW, "--zone", "FR", *options, env={"OTEL_TRACES_EXPORTER": "console"})
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total") == 20)
    joules = service.total("ecolyzer_energy_joules_total")
    per_kwh = {
        name: service.total(f"ecolyzer_{name}grams_total") / joules * 3.6e6
        for name in ("co2e_", "marginal_co2e_", "market_co2e_")
    }
    france = resolve_place("FR").grams_per_kwh
    assert per_kwh == {
        "co2e_": pytest.approx(france), "marginal_co2e_": pytest.approx(800.0), "market_co2e_": pytest.approx(20.0)
    }  # fmt: skip
    assert service.total("ecolyzer_market_factor_grams_per_kwh", 'source="wind PPA"') == 20.0


def test_a_cloud_is_found_by_its_firmware_and_its_average_taken_where_it_does_not_answer(launch, tmp_path):
    dmi = tmp_path / "sys" / "class" / "dmi" / "id"
    dmi.mkdir(parents=True)
    (dmi / "sys_vendor").write_text("Amazon EC2\n")
    (dmi / "product_name").write_text("m7i.large\n")
    service = launch(FEW, "--sysfs", str(tmp_path / "sys"), env={"OTEL_TRACES_EXPORTER": "console"})
    service.wait_for("done")
    service.metrics_url()  # the meter has said all that it has to say
    (line,) = [one for one in service.stderr.splitlines() if "--zone" in one and "aws" in one and "|" not in one]
    assert "set --zone" in line or "give --zone" in line or "--zone aws:" in line
    assert service.total("ecolyzer_pue_ratio") == resolve_place("aws:*").pue


def test_no_place_is_said_once_and_marked_on_every_figure(launch):
    service = launch(FEW, "--cloud-metadata", "off", env={"OTEL_TRACES_EXPORTER": "console"})
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total") == 20)
    service.process.terminate()
    service.wait()
    assert service.stderr.count("no zone set") == 1
    assert service.stdout.count('"ecolyzer.grid.defaulted": true') == 20
    assert service.stdout.count('"ecolyzer.grid.zone": "WORLD"') == 20


@pytest.mark.parametrize(
    ("options", "key", "remedy"),
    [
        (("--zone", "frankfurt"), "--zone (ECOLYZER_ZONE)", "did you mean aws:eu-central-1"),
        (("--ewif", "-1"), "--ewif", "give a number from 0 to 100 L/kWh"),
        (("--market-factor", "9000"), "--market-factor", "give a number from 0 to 2000 g/kWh"),
        (("--grid", "sundial"), "--grid", "give one of table, electricitymaps, neso, rte, entsoe, csv:FILE"),
        (("--grid", "neso", "--zone", "FR"), "--grid (ECOLYZER_GRID)", "GB"),
        (("--grid", "electricitymaps", "--zone", "FR"), "--grid (ECOLYZER_GRID)", "ECOLYZER_ELECTRICITYMAPS_TOKEN"),
        (("--grid", "csv:/no/such.csv"), "--grid (ECOLYZER_GRID)", "/no/such.csv"),
        (("--embodied", "server=abacus"), "--embodied (ECOLYZER_EMBODIED)", "give kgCO2e as a number"),
        (("--embodied", "server=900"), "--embodied (ECOLYZER_EMBODIED)", "give --lifetime YEARS"),
        (("--lifetime", "0"), "--lifetime", "give years"),
        (("--quantization", "int8=-1"), "--quantization", "give paper-tool, bits, or DTYPE=FACTOR"),
        (("--market-source", "PPA"), "--market-source (ECOLYZER_MARKET_SOURCE)", "give --market-factor"),
    ],
)
def test_a_bad_setting_is_one_line_and_every_request_is_settled(launch, options, key, remedy):
    service = launch(FEW, *options)
    service.wait_for("done")
    until(lambda: service.total("ecolyzer_requests_total") == 20)
    (line,) = [one for one in service.stderr.splitlines() if key in one]
    assert remedy in line


def test_a_file_with_a_missing_column_or_an_absurd_factor_names_line_and_column(launch, tmp_path):
    for text, said in (("zone,grams\nFR,40\n", "gco2e_per_kwh"), ("zone,gco2e_per_kwh\nFR,-40\n", "line 2")):
        (tmp_path / "own.csv").write_text(text)
        service = launch(FEW, "--zone", "FR", "--grid", f"csv:{tmp_path / 'own.csv'}")
        service.wait_for("done")
        until(lambda service=service: service.total("ecolyzer_requests_total") == 20)
        (line,) = [one for one in service.stderr.splitlines() if "--grid (ECOLYZER_GRID)" in one]
        assert said in line
        assert intensity(service)[1] == "OWID/Ember"
