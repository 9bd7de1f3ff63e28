"""The thread: when it asks, what stands meanwhile, what the cache spares, and that nothing stops it."""

from __future__ import annotations

import json
import os
import stat
import threading
import time

import pytest
from live_server import CASES, Answer, electricitymaps
from support.waiting import until

from ecolyzer_otel.impact.live import Figure, LiveGrid
from ecolyzer_otel.impact.live.cache import Cache
from ecolyzer_otel.impact.live.figure import Problem
from ecolyzer_otel.impact.live.refresh import Pace

BY_NAME = {case.name: case for case in CASES}
EM = BY_NAME["electricitymaps"]
T = 1_800_000_000.0


class Played:
    """A provider whose answers a test writes down, on a clock that stands still."""

    source = "played"
    identity: str | None = "played"
    secrets = ()
    floor_s = 60.0
    replaces = False
    fixed = False

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    def fetch(self, now_s: float):
        self.asked.append(now_s)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [answer]


def figure(grams: float = 100.0, from_s: float = T, until_s: float | None = None) -> Figure:
    return Figure(
        grams_per_kwh=grams,
        zone="FR",
        basis="b",
        source="played",
        source_detail="d",
        from_s=from_s,
        until_s=until_s,
    )


class Turns:
    """A grid whose thread's turns a test takes itself, in a time of its own."""

    def __init__(self, provider: Played, cache: str | None = None, uniform=lambda low, high: high, **pace: float):
        self.now = T
        self.said: list[str] = []
        self.grid = LiveGrid(
            provider,
            key="--grid",
            pace=Pace(**{"refresh": 900.0, "backoff_first": 5.0, "backoff_most": 900.0, **pace}),
            max_age=3600.0,
            cache=Cache(cache, provider.source, provider.identity),
            fallback="table",
            clock=lambda: self.now,
            uniform=uniform,
        )
        self.grid.on_problem = self.said.append

    def turn(self, after: float = 0.0) -> float:
        """Seconds until the next one is due."""
        self.now += after
        return self.grid._turn()


def test_asked_anew_after_the_refresh_time_with_some_jitter():
    provider = Played(figure())
    turns = Turns(provider)
    assert turns.turn() == pytest.approx(945.0)  # 900 s and 5 % at most
    assert turns.turn(944.0) == pytest.approx(1.0)
    turns.turn(1.0)
    assert provider.asked == [T, T + 945.0]


def test_asked_anew_when_the_figure_ends_if_that_is_sooner():
    assert Turns(Played(figure(until_s=T + 300.0))).turn() == pytest.approx(315.0)


def test_never_more_often_than_the_floor():
    assert Turns(Played(figure(until_s=T + 1.0))).turn() == pytest.approx(63.0)
    # A figure that ended before it came does not make the thread ask without pause.
    assert Turns(Played(figure(from_s=T - 900, until_s=T - 300.0))).turn() == pytest.approx(945.0)


def test_backoff_doubles_to_a_ceiling_with_full_jitter():
    turns = Turns(Played(Problem("timeout", "slow")))
    waits = []
    for _ in range(10):
        waits.append(turns.turn(waits[-1] if waits else 0.0))
    assert waits == pytest.approx([5, 10, 20, 40, 80, 160, 320, 640, 900, 900])
    assert Turns(Played(Problem("timeout", "slow")), uniform=lambda low, high: low).turn() == pytest.approx(1.0)


def test_backoff_begins_anew_after_a_success():
    turns = Turns(
        Played(Problem("timeout", "slow"), Problem("timeout", "slow"), figure(), Problem("timeout", "slow"))
    )
    for wait in (5.0, 10.0, 945.0, 5.0):
        assert turns.turn() == pytest.approx(wait)
        turns.now += wait


def test_retry_after_is_obeyed():
    assert Turns(Played(Problem("http_429", "many", retry_after=600.0))).turn() == pytest.approx(600.0)


def test_stale_while_error_until_the_age_limit_and_then_said_once():
    turns = Turns(Played(figure(), Problem("timeout", "slow")))
    turns.turn()
    turns.turn(950.0)
    assert turns.grid.at(turns.now).grams_per_kwh == 100.0
    assert "stands until" in turns.grid.problem
    turns.now = T + 3600.0
    assert turns.grid.at(turns.now) is not None
    turns.turn(1.0)
    turns.turn(1.0)
    assert turns.grid.at(turns.now) is None
    assert turns.grid.at(T + 10.0) is not None  # what was, was
    assert turns.grid.problem.endswith("; table")
    assert len(turns.said) == 2
    assert turns.said[1].endswith("; table")


def test_a_new_kind_of_fault_is_said_and_an_old_one_is_not_again():
    kinds = ["timeout", "http_5xx", "timeout", "http_5xx", "timeout"]
    turns = Turns(Played(*(Problem(kind, kind) for kind in kinds), figure()))
    for _ in kinds:
        turns.turn(2000.0)
    assert len(turns.said) == 2
    turns.turn(2000.0) if turns.grid.problem else None
    assert turns.grid.outcomes == {"timeout": 3, "http_5xx": 2, "stale": 1}


def test_a_clock_that_is_set_back_does_not_stop_the_asking():
    provider = Played(figure(from_s=T - 1e6))
    turns = Turns(provider)
    turns.grid._max_age = 1e9
    turns.turn()
    assert turns.turn(-50_000.0) <= 900.0


def test_figures_are_bounded():
    turns = Turns(Played(*(figure(float(n), T + n) for n in range(600))), refresh=0.0)
    turns.grid._provider.floor_s = 0.0
    for _ in range(600):
        turns.turn(1.0)
    assert len(turns.grid._history) == 512


def test_any_exception_is_survived(server, run):
    server.answer = EM.respond(100.0)
    grid, said = run(EM)
    until(lambda: grid.outcomes.get("ok"))
    fetch = grid._provider.fetch
    grid._provider.fetch = lambda now: 1 / 0
    until(lambda: grid.outcomes.get("error", 0) >= 2)
    grid.on_problem = lambda text: 1 / 0
    grid._provider.fetch = fetch
    until(lambda: grid.problem is None)
    assert len(said) == 1


def test_at_rest_nothing_is_done(server, run):
    server.answer = EM.respond(100.0)
    grid, _ = run(EM, refresh=600.0)
    until(lambda: grid.outcomes.get("ok"))
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.2
    assert len(server.asked) == 1


def test_a_forked_child_has_no_thread_and_asks_nothing(server, run):
    server.answer = EM.respond(100.0)
    grid, _ = run(EM, refresh=600.0)
    until(lambda: grid.outcomes.get("ok"))
    child = os.fork()
    if child == 0:
        grid.start()
        grid.close()
        alive = [thread for thread in threading.enumerate() if "live" in thread.name]
        os._exit(0 if not alive and grid.at(time.time()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(server.asked) == 1


def test_closing_ends_the_thread_and_keeps_the_figures(server):
    server.answer = EM.respond(100.0)
    grid = EM.open(server.url)
    grid.start()
    grid.start()
    until(lambda: grid.at(time.time()))
    grid.close()
    grid.close()
    grid.start()
    assert not [thread for thread in threading.enumerate() if thread.name == "ecolyzer-live-grid"]
    assert grid.at(time.time())


def test_closing_does_not_wait_for_a_slow_server(server):
    server.answer = lambda asked: Answer(raw=lambda handler: server.ending.wait(60.0))
    grid = EM.open(server.url)
    grid.start()
    until(lambda: server.asked)
    begun = time.monotonic()
    grid.close(0.1)
    assert time.monotonic() - begun < 30.0


def cached(tmp_path) -> dict:
    (file,) = tmp_path.glob("grid-*.json")
    return json.loads(file.read_text())


def test_the_cache_outlives_a_restart_and_spares_a_fetch(case, server, run, tmp_path):
    server.answer = case.respond(100.0)
    first, _ = run(case, cache=str(tmp_path / "a/b"), refresh=600.0)
    figure = until(lambda: first.at(time.time()))
    first.close()
    asked = len(server.asked)
    second, _ = run(case, cache=str(tmp_path / "a/b"), refresh=600.0)
    assert second.at(time.time()) == figure
    time.sleep(0.2)
    assert len(server.asked) == asked
    (file,) = (tmp_path / "a/b").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_cache_is_told_apart_by_place(server, run, tmp_path):
    for zone in ("DE", "FR"):
        server.answer = lambda asked: Answer(electricitymaps(50.0, time.time(), asked.query["zone"]))
        grid, _ = run(EM, cache=str(tmp_path), zone=zone, refresh=600.0)
        until(lambda grid=grid: grid.at(time.time()))
        assert grid.at(time.time()).zone == zone
    assert len(list(tmp_path.iterdir())) == 2


def test_another_meters_fetch_spares_ours(tmp_path):
    one, other = Played(figure()), Played(figure())
    first, second = Turns(one, str(tmp_path)), Turns(other, str(tmp_path))
    first.turn()
    second.turn()
    assert (len(one.asked), len(other.asked)) == (1, 0)
    assert second.grid.at(T).grams_per_kwh == 100.0
    assert second.grid.outcomes == {}


def test_one_fetch_at_a_time_for_one_place(server, run, tmp_path):
    good = EM.respond(100.0)

    def slowly(asked):
        time.sleep(0.2)
        return good(asked)

    server.answer = slowly
    grids = [run(EM, cache=str(tmp_path), refresh=600.0)[0] for _ in range(4)]
    until(lambda: all(grid.at(time.time()) for grid in grids))
    assert len(server.asked) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "3", '{"version": 1}', "\0" * 100, "[" * 5000])
def test_a_damaged_cache_is_no_error(tmp_path, damage, caplog):
    Turns(Played(figure()), str(tmp_path)).turn()
    (file,) = tmp_path.iterdir()
    file.write_text(damage)
    turns = Turns(Played(figure(7.0)), str(tmp_path))
    assert turns.grid.at(T) is None
    turns.turn()
    assert turns.grid.at(T).grams_per_kwh == 7.0
    assert turns.said == []
    assert cached(tmp_path)["figures"][0]["grams_per_kwh"] == 7.0


@pytest.mark.parametrize(
    "change",
    [
        {"grams_per_kwh": -1},
        {"grams_per_kwh": 9e9},
        {"from_s": T + 1e6},
        {"from_s": "x"},
        {"zone": ""},
        {"estimated": 1},
        {"uncertainty": -1},
        {"until_s": T - 5},
    ],
)
def test_an_edited_cache_is_believed_no_more_than_a_source(tmp_path, change):
    Turns(Played(figure()), str(tmp_path)).turn()
    document = cached(tmp_path)
    document["figures"][0].update(change)
    next(tmp_path.iterdir()).write_text(json.dumps(document))
    assert Turns(Played(figure()), str(tmp_path)).grid.at(T) is None


def test_a_cache_too_old_is_not_used(tmp_path):
    Turns(Played(figure()), str(tmp_path)).turn()
    late = Turns(Played(figure(8.0, T + 9000)), str(tmp_path))
    late.now = T + 9000
    late.grid._adopt(late.now)
    late.turn()
    assert late.grid.at(late.now).grams_per_kwh == 8.0


def test_a_link_in_the_place_of_the_cache_is_not_followed(tmp_path):
    Turns(Played(figure()), str(tmp_path / "real")).turn()
    (real,) = (tmp_path / "real").iterdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / real.name).symlink_to(real)
    assert Turns(Played(figure()), str(tmp_path / "linked")).grid.at(T) is None


@pytest.mark.parametrize("folder", ["/proc/no/such", "/dev/null/x"])
def test_an_unwritable_cache_is_one_line_for_debuggers(folder, caplog):
    caplog.set_level("DEBUG", logger="ecolyzer_otel.impact.live")
    turns = Turns(Played(figure()), folder)
    turns.turn()
    turns.turn(1000.0)
    assert turns.grid.at(T).grams_per_kwh == 100.0
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert turns.said == []


def test_the_cache_folder_is_the_users_unless_set(server, run, tmp_path):
    server.answer = EM.respond(100.0)
    for home in ({"HOME": str(tmp_path / "h")}, {"XDG_CACHE_HOME": str(tmp_path / "x")}, {}):
        grid, _ = run(EM, cache=None, environ={**EM.environ, **home}, refresh=600.0)
        until(lambda grid=grid: grid.outcomes.get("ok"))
    assert list((tmp_path / "h/.cache/ecolyzer").glob("grid-electricity-maps-*.json"))
    assert list((tmp_path / "x/ecolyzer").glob("grid-electricity-maps-*.json"))
