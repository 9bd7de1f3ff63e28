"""Each provider misbehaving in each way, and recovering: what is counted, said once, and never lost or shown."""

from __future__ import annotations

import json
import logging
import time
import traceback
from dataclasses import dataclass

import pytest
from live_server import CASES, Answer, Case
from support.waiting import until

from ecolyzer_otel.impact.live import LiveGrid


def hang(handler):
    time.sleep(0.5)


def hang_up(handler):
    handler.connection.close()


def cut_off(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")


@dataclass(frozen=True)
class Fault:
    answer: Answer
    outcome: str


FAULTS = {
    "429": Fault(Answer(status=429), "http_429"),
    "500": Fault(Answer("{}", 500), "http_5xx"),
    "502 in HTML": Fault(Answer("<html>Bad gateway</html>", 502), "http_5xx"),
    "404": Fault(Answer({"message": "No such zone"}, 404), "http_4xx"),
    "204": Fault(Answer(status=204), "http_other"),
    "HTML": Fault(Answer("<!DOCTYPE html><html><body>Sign in</body></html>"), "not_json"),
    "nothing": Fault(Answer(""), "not_json"),
    "huge": Fault(Answer(b" " * ((1 << 20) + 1)), "too_large"),
    "hangs up": Fault(Answer(raw=hang_up), "network"),
    "cut off": Fault(Answer(raw=cut_off), "network"),
    "redirected": Fault(Answer(status=302, headers={"Location": "http://127.0.0.2/else"}), "redirect"),
}


@pytest.fixture(params=FAULTS)
def fault(request, case: Case):
    fault = FAULTS[request.param]
    return Fault(fault.answer, case.not_that_format if fault.outcome == "not_json" else fault.outcome)


def test_a_fault_is_counted_said_once_and_recovered_from(case, fault, server, run):
    good = case.respond(100.0)
    server.answer = good
    grid, said = run(case)
    before = until(lambda: grid.at(time.time()))
    server.answer = lambda asked: fault.answer
    until(lambda: grid.outcomes.get(fault.outcome, 0) >= 2)
    assert set(grid.outcomes) == {"ok", fault.outcome}
    # The figure that was there still stands, and the fault says so with the option's name.
    assert grid.at(time.time()).grams_per_kwh == before.grams_per_kwh
    assert grid.problem.startswith(f"--grid (ECOLYZER_GRID): {case.label}: ")
    assert "stands until" in grid.problem
    assert len(said) == 1
    server.answer = good
    until(lambda: grid.problem is None)
    assert len(said) == 2
    assert said[1].endswith("gives figures again")


def test_slow(case, server, run):
    server.answer = lambda asked: Answer(raw=hang)
    grid = case.open(server.url)
    grid._provider._fetcher._read_timeout = 0.05
    grid.start()
    until(lambda: grid.outcomes.get("timeout", 0) >= 2)
    server.answer = case.respond(100.0)
    until(lambda: grid.at(time.time()))
    assert grid.problem is None
    grid.close(0.0)


def test_an_answer_for_another_place_is_refused(case, server, run):
    server.answer = case.respond(100.0, what="wrong_zone")
    grid, _ = run(case)
    until(lambda: grid.outcomes)
    assert set(grid.outcomes) <= {"wrong_zone", "bad_value"}
    assert grid.at(time.time()) is None
    assert "bundled figure" in grid.problem or "no marginal figure" in grid.problem


VALUES = {"carbonIntensity", "actual", "forecast", "taux_co2", "value", "grams_per_kwh"}


def with_value(document, value):
    """``document`` with ``value`` for every intensity in it."""
    if isinstance(document, list):
        return [with_value(each, value) for each in document]
    if not isinstance(document, dict):
        return document
    return {name: value if name in VALUES else with_value(each, value) for name, each in document.items()}


@pytest.mark.parametrize(
    "grams", [-1.0, 9999.0, float("nan"), float("inf"), "12", None, True, [5], 10**400], ids=str
)
@pytest.mark.parametrize("case", [case for case in CASES if case.name != "entsoe"], ids=lambda case: case.name)
def test_an_absurd_value_is_refused(case, server, run, grams):
    body = with_value(case.good(123.0, time.time()), grams)
    server.answer = lambda asked: Answer({"token": "t"}) if asked.path == "/login" else Answer(body)
    grid, said = run(case)
    until(lambda: grid.outcomes)
    assert (grid.at(time.time()), set(grid.outcomes)) == (None, {"bad_value"})
    assert len(said) == 1


@pytest.mark.parametrize(("shift", "outcome"), [(-86400.0, "stale"), (+7200.0, "bad_value")])
def test_a_figure_of_the_wrong_time_is_refused(case, server, run, shift, outcome):
    server.answer = case.respond(100.0, time.time() + shift)
    grid, said = run(case)
    until(lambda: grid.outcomes)
    assert set(grid.outcomes) == {outcome}
    assert grid.at(time.time()) is None
    assert len(said) == 1


@pytest.mark.parametrize("body", ["[]", "{}", "3", '"x"', '{"data": [3]}', '{"results": {}}', "[" * 100_000])
def test_json_of_another_shape_is_refused(case, server, run, body):
    server.answer = lambda asked: Answer({"token": "t"}) if asked.path == "/login" else Answer(body)
    grid, _ = run(case)
    until(lambda: grid.outcomes)
    assert set(grid.outcomes) <= {"bad_value", "no_data", "not_json", "not_xml"}
    assert grid.at(time.time()) is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_final_and_said_once(case, server, run, status):
    server.answer = lambda asked: Answer("who are you", status)
    grid, said = run(case)
    until(lambda: said)
    time.sleep(0.1)
    assert grid.outcomes == {"unauthorized": 1}
    assert len(server.asked) == 1
    assert len(said) == 1
    for variable in case.environ:
        assert variable in said[0]


def everything_shown(grid: LiveGrid, caplog: pytest.LogCaptureFixture) -> str:
    provider = grid._provider
    try:
        provider.fetch(time.time())
        shown = ""
    except Exception as error:
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
        shown += repr((error.__cause__, error.args))
    return f"{shown} {grid.problem} {caplog.text} {grid!r} {provider!r} {provider.secrets!r} {grid.outcomes}"


@pytest.mark.parametrize("what", ["echo", "401", "500", "refused", "redirect", "bad zone", "hangs up"])
def test_no_secret_shows_anywhere(case, server, run, caplog, what, tmp_path):
    caplog.set_level(logging.DEBUG)

    def answer(asked):
        told = json.dumps([asked.query, dict(asked.headers), *case.secrets])
        return {
            "echo": Answer(told),
            "401": Answer(told, 401, {"X-Echo": "x"}),
            "500": Answer(told, 500),
            "redirect": Answer(told, 302, {"Location": f"https://example.invalid/{case.secrets[:1]}"}),
            "bad zone": Answer({"zone": told[:50], "token": told, "grams_per_kwh": 1}),
            "hangs up": Answer(raw=hang_up),
            "refused": Answer(told),
        }[what]

    server.answer = answer
    grid = case.open(server.url, cache=str(tmp_path))
    if what == "refused":
        server.close()
        server.close = lambda: None
    grid.start()
    until(lambda: grid.outcomes)
    shown = everything_shown(grid, caplog)
    grid.close()
    assert grid.problem
    for secret in case.secrets:
        assert secret not in shown


def test_no_secret_is_in_the_cache(case, server, run, tmp_path):
    server.answer = case.respond(100.0)
    grid, _ = run(case, cache=str(tmp_path), refresh=60.0)
    until(lambda: grid.outcomes.get("ok"))
    (file,) = until(lambda: list(tmp_path.glob("grid-*.json")))
    for secret in (*case.secrets, "code=1"):
        assert secret not in file.read_text() + file.name


def test_the_default_listener_warns_once_and_informs_of_recovery(case, server, caplog):
    caplog.set_level(logging.INFO, logger="ecolyzer_otel.impact.live")
    grid = case.open(server.url)
    grid.start()
    until(lambda: grid.outcomes.get("http_5xx", 0) >= 3)
    server.answer = case.respond(100.0)
    until(lambda: grid.problem is None)
    grid.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
