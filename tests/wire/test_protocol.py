"""Versions, bounds, and peers that are slow, dead, wrong, older or newer than this package."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.peers import MODEL, frame
from support.waiting import AGES, PATIENCE

from ecolyzer_otel.common.errors import ProtocolError
from ecolyzer_otel.meter import client as limits
from ecolyzer_otel.wire.limits import MAX_DONE, MAX_FRAME, MAX_NAME
from ecolyzer_otel.wire.protocol import (
    VERSION,
    Batch,
    Flush,
    Flushed,
    Frames,
    FromMeter,
    FromWorker,
    Hello,
    Model,
    Open,
    PlaceFacts,
    Refused,
    Settled,
    Settlements,
    Welcome,
    encode,
)

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000


def pack(*parts: Any) -> bytes:
    return frame(msgspec.msgpack.encode(list(parts)))


# Versions.


def test_the_meter_answers_in_the_newest_version_that_both_speak(meter):
    peer = meter().peer()
    peer.socket.sendall(pack("hello", VERSION + 41, 7, "shop", VERSION, "token", "a field of the future", {"x": 1}))
    assert peer.wait_for(Welcome).version == VERSION
    peer.say(peer.batch(peer.done(3)), Flush(1))
    assert peer.wait_for(Flushed).number == 1


def test_an_older_worker_that_knows_fewer_fields_is_served(meter):
    running = meter()
    peer = running.peer()
    peer.socket.sendall(pack("hello", VERSION, 7, "old"))
    peer.wait_for(Welcome)
    now = time.monotonic_ns()
    model = [0, "engine", "custom", 1000, "float32", "cpu"]
    done = [1, 0, "infer", now - SECOND // 100, now, 5_000_000, 1, "", "", "", "", False]
    peer.socket.sendall(pack("batch", now, now, [], [model], [], [done], 1, {}))
    running.settled(1, 'service="old"')


def test_fields_that_a_newer_worker_adds_are_ignored(meter):
    running = meter()
    peer = running.peer()
    peer.hello()
    now = time.monotonic_ns()
    model = [0, "engine", "custom", 1000, "float32", "cpu", "", "new"]
    done = [
        1,
        0,
        "infer",
        now - SECOND // 100,
        now,
        5_000_000,
        1,
        "",
        "",
        "",
        "",
        False,
        {},
        [],
        None,
        0,
        False,
        [],
        0,
        3.5,
        [1],
    ]
    peer.socket.sendall(pack("batch", now, now, [], [model], [], [done], 1, {}, False, {}, [], "new"))
    running.settled(1)


@pytest.mark.parametrize("versions", [(99, 99), (0, 0)])
def test_a_version_that_is_not_spoken_is_refused_with_a_remedy(meter, caplog, versions):
    peer = meter().peer()
    peer.socket.sendall(pack("hello", versions[0], 7, "shop", versions[1]))
    refused = peer.wait_for(Refused)
    assert "same ecolyzer-otel on both sides" in refused.reason
    assert peer.is_closed()
    assert "was disconnected: it speaks protocol version" in caplog.text


# Bounds.

NOW = 1 << 40
DONE = [1, 0, "infer", NOW, NOW, 5, 1, "", "", "", "", False]
LONG = "x" * (MAX_NAME + 1)


def wrong_batch(**wrong: Any) -> bytes:
    parts = {
        "now": NOW,
        "mark": NOW,
        "clocks": [],
        "models": [],
        "open": [],
        "done": [],
        "served": 0,
        "dropped": {},
    }
    return pack("batch", *(parts | wrong).values())


NONSENSE = {
    "no length": b"\xff" * 64,
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "no MessagePack": frame(b"\xc1"),
    "no message": frame(msgspec.msgpack.encode({"a": 1})),
    "an unknown tag": pack("good morning"),
    "a text for a number": pack("hello", "one", 2, "shop"),
    "a frame over the limit": (MAX_FRAME + 1).to_bytes(4, "big"),
    "a long service": pack("hello", 1, 2, LONG),
    "deep nesting": frame(b"\x91" * 100_000),
}
WRONG_BATCHES = {
    "a negative number": wrong_batch(served=-1),
    "a number over 64 bits": frame(b"\x9b" + b"\xcf" + b"\xff" * 8),
    "a long name of a model": wrong_batch(models=[[0, LONG, "f", 1, "d", "cpu"]]),
    "a long route": wrong_batch(done=[[*DONE[:8], LONG, *DONE[9:]]]),
    "too many requests": wrong_batch(done=[DONE] * (MAX_DONE + 1)),
    "too many clocks": wrong_batch(clocks=[[1, 1, 1]] * 100),
    "too many busy intervals": wrong_batch(done=[[*DONE, {"gpu0": [[1, 2]] * 100}]]),
    "too many reasons": wrong_batch(dropped={str(n): 1 for n in range(100)}),
    "a reason that is none": wrong_batch(dropped={"bored": 1}),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_closes_that_connection_with_a_reason_and_no_other(meter, caplog, what):
    running = meter()
    good, bad = running.peer(), running.peer()
    good.hello()
    bad.socket.sendall(NONSENSE[what])
    assert bad.is_closed()
    assert "was disconnected: " in caplog.text
    good.say(good.batch(good.done(2)))
    running.settled(2)


@pytest.mark.parametrize("what", WRONG_BATCHES)
def test_what_is_over_a_limit_is_no_message(meter, caplog, what):
    running = meter()
    bad = running.peer()
    bad.hello()
    bad.socket.sendall(WRONG_BATCHES[what])
    assert bad.is_closed()
    assert "was disconnected: " in caplog.text
    after = running.peer()
    after.hello()
    after.say(after.batch(after.done(2)))
    running.settled(2)


def test_the_first_word_must_be_hello_and_only_the_first(meter, caplog):
    running = meter()
    peer, twice = running.peer(), running.peer()
    peer.say(Flush(1))
    assert peer.is_closed()
    assert "the first message was not hello" in caplog.text
    twice.hello()
    twice.say(Hello(VERSION, 1, "again"))
    assert twice.is_closed()


def test_who_connects_and_says_nothing_is_sent_away(meter, monkeypatch, caplog):
    monkeypatch.setattr("ecolyzer_otel.wire.server._HELLO_SECONDS", 0.2)
    assert meter().peer().is_closed(5)
    assert "sent no hello" in caplog.text


def test_a_peer_that_comes_back_with_nonsense_does_not_fill_the_log(meter, caplog, monkeypatch):
    monkeypatch.setattr("ecolyzer_otel.wire.server._LOG_LINES", 5)
    running = meter()
    for _ in range(30):
        bad = running.peer()
        bad.socket.sendall(b"\xff" * 64)
        assert bad.is_closed()
    assert caplog.text.count("was disconnected") == 5


def test_models_without_end_close_the_connection(meter, caplog, monkeypatch):
    monkeypatch.setattr("ecolyzer_otel.meter.intake.MAX_MODELS", 50)
    peer = meter().peer()
    peer.hello()
    peer.say(peer.batch(models=[Model(n, f"m{n}", "custom", 1, None, "cpu") for n in range(51)]))
    assert peer.is_closed()
    assert "more than 50 models" in caplog.text


def test_requests_in_flight_over_the_limit_are_unsettled_and_counted(meter, monkeypatch):
    monkeypatch.setattr("ecolyzer_otel.meter.intake.MAX_IN_FLIGHT", 10)
    running = meter()
    peer = running.peer()
    peer.hello()
    now = time.monotonic_ns()
    opens = [Open(1000 + n, now - SECOND // 2, 1) for n in range(8)]
    peer.say(peer.batch(peer.done(5), opens=opens))
    running.wait_until(lambda: running.total("ecolyzer_unsettled_requests_total", 'reason="limit"') == 3)
    running.settled(2)


def test_labels_of_one_worker_over_the_limit_share_one_and_leave_the_others_theirs(meter):
    running = meter(max_label_sets=20)
    greedy, modest = running.peer(), running.peer()
    greedy.hello("greedy")
    modest.hello("modest")
    for n in range(30):
        greedy.say(greedy.batch(greedy.done(1, route=f"/{n}")))
    running.settled(30, 'service="greedy"')
    modest.say(modest.batch(modest.done(1, route="/mine")))
    running.settled(1, 'service="modest"')
    assert running.total("ecolyzer_requests_total", 'route="__other__"', 'service="greedy"') == 20


# Lies.

LIES = {
    "ends before it starts": {"start_ns": NOW, "end_ns": NOW - 1},
    "ends in the future": {"end_ns": 1 << 61},
    "a trace id that is none": {"trace_id": "zz", "span_id": "1"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_cannot_be_is_unsettled(meter, lie):
    running = meter()
    peer = running.peer()
    peer.hello()
    peer.say(peer.batch(peer.done(1, **LIES[lie])))
    running.wait_until(lambda: running.total("ecolyzer_unsettled_requests_total", 'reason="invalid"') == 1)


def test_the_same_request_twice_counts_once(meter):
    running = meter()
    peer = running.peer()
    peer.hello()
    (one,) = peer.done(1)
    peer.say(peer.batch([one, one]))
    running.settled(1)
    assert running.total("ecolyzer_unsettled_requests_total", 'reason="invalid"') == 1
    assert running.total("ecolyzer_pending_requests") == 0


def test_cpu_time_that_no_machine_has_is_cut_to_what_it_has(meter):
    """A worker that claims a year of CPU time gets no more than all CPUs could give it; others keep theirs."""
    running = meter()
    liar, honest = running.peer(), running.peer()
    liar.hello("liar")
    honest.hello("honest")
    year = 365 * 86_400 * SECOND
    now = time.monotonic_ns()
    for peer, cpu in ((liar, 0), (honest, 0)):
        peer.say(peer.batch(clocks=[(now - SECOND // 2, cpu, 0)]))
    time.sleep(0.1)
    now = time.monotonic_ns()
    liar.say(liar.batch(liar.done(1, milliseconds=100, cpu_ns=year), clocks=[(now, year, year)]))
    honest.say(honest.batch(honest.done(1, milliseconds=100), clocks=[(now, SECOND // 10, 0)]))
    running.settled(2)
    active = {
        name: running.total("ecolyzer_energy_joules_total", f'service="{name}"', 'share="active"')
        for name in ("liar", "honest")
    }
    assert active["honest"] > 0
    assert active["liar"] / active["honest"] < 20 * (os.cpu_count() or 1)


def test_a_watermark_that_never_moves_holds_the_others_up_for_two_seconds_at_most(meter):
    running = meter()
    stuck, other = running.peer(), running.peer()
    stuck.hello("stuck")
    other.hello("other")
    stuck.say(stuck.batch(watermark_ns=1, quiet=False))
    other.say(other.batch(other.done(1)))
    running.settled(1, 'service="other"')


# Coming back.


def test_a_worker_that_connects_anew_is_the_same_one_with_its_open_requests(meter):
    running = meter()
    first = running.peer()
    assert first.hello(token="t").received == 0
    start = time.monotonic_ns() - SECOND // 2
    first.say(first.batch(first.done(3), opens=[Open(99, start, SECOND // 4)]))
    running.wait_until(lambda: running.total("ecolyzer_device_energy_pending_joules") > 0)
    first.close()
    time.sleep(0.5)
    second = running.peer()
    assert second.hello(token="t").received == 3
    now = time.monotonic_ns()
    (done,) = second.done(1, start_ns=start, end_ns=now, cpu_ns=SECOND // 2)
    second.served = 3
    second.say(second.batch([msgspec.structs.replace(done, id=99)]))
    running.settled(4)
    assert running.total("ecolyzer_workers") == 1
    assert running.total("ecolyzer_dropped_requests_total") == 0
    assert running.total("ecolyzer_pending_requests") == 0


def test_a_worker_that_connects_anew_before_its_old_connection_is_seen_to_end_replaces_it(meter):
    running = meter()
    first, second = running.peer(), running.peer()
    first.hello(token="t")
    first.say(first.batch(first.done(2)))
    running.settled(2)
    assert second.hello(token="t").received == 2
    assert first.is_closed()
    second.served = 2
    second.say(second.batch(second.done(1)))
    running.settled(3)


def test_one_that_stays_away_loses_its_open_requests_and_keeps_its_books(meter, monkeypatch):
    monkeypatch.setattr("ecolyzer_otel.meter.intake._RETURN_SECONDS", 0.2)
    running = meter()
    first = running.peer()
    first.hello(token="t")
    first.say(first.batch(first.done(1), opens=[Open(99, time.monotonic_ns() - SECOND // 2, SECOND // 4)]))
    running.settled(1)
    first.close()
    running.wait_until(lambda: running.total("ecolyzer_device_energy_pending_joules") == 0)
    assert running.total("ecolyzer_device_energy_joules_total", 'share="process"') > 0
    assert running.peer().hello(token="t").received == 1
    assert running.total("ecolyzer_dropped_requests_total") == 0, "it lives: nothing died with it"


# Slow and dead.


def test_a_worker_that_never_reads_is_cut_off_and_its_requests_count(meter, monkeypatch, caplog):
    monkeypatch.setattr("ecolyzer_otel.wire.server._MAX_UNREAD", 20_000)
    running = meter()
    deaf, other = running.peer(), running.peer()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    deaf.hello("deaf")
    other.hello("other")
    sent = 0
    for _ in range(200):
        try:
            deaf.say(deaf.batch(deaf.done(100, milliseconds=0.1, want=True)))
        except OSError:
            break
        sent += 100
        other.say(other.batch(other.done(1)))
        time.sleep(0.02)
    assert "left more than" in caplog.text
    assert sent < 20_000
    running.wait_until(lambda: running.total("ecolyzer_pending_requests") == 0)
    assert running.total("ecolyzer_requests_total", 'service="other"') == other.served
    counted = running.total("ecolyzer_requests_total", 'service="deaf"')
    counted += running.total("ecolyzer_unsettled_requests_total", 'service="deaf"')
    assert 0 < counted <= sent


def test_half_a_frame_holds_nobody_up(meter):
    running = meter()
    half, other = running.peer(), running.peer()
    half.socket.sendall(encode(Hello(VERSION, 1, "half"))[:7])
    other.hello()
    other.say(other.batch(other.done(2)))
    running.settled(2)
    half.close()


# Fuzzed.

number = st.integers(-(1 << 63), (1 << 64) - 1)
junk = st.recursive(
    st.none() | st.booleans() | number | st.floats() | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
tags = st.sampled_from(["hello", "batch", "flush", "welcome", "refused", "settlements", "flushed", "x"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.binary(max_size=60) | st.builds(lambda tag, rest: pack(tag, *rest), tags, st.lists(junk, max_size=9)),
        max_size=6,
    ),
    st.sampled_from(["worker", "meter"]),
    st.integers(1, 50),
)
def test_any_bytes_are_messages_or_a_protocol_error(parts, sender, size):
    data = b"".join(parts)
    frames = Frames(sender)
    kinds = get_args(FromWorker if sender == "worker" else FromMeter)
    try:
        for start in range(0, len(data), size):
            for message in frames.feed(data[start : start + size]):
                assert isinstance(message, kinds)
    except ProtocolError:
        pass


small = st.integers(0, 5)
instant = st.integers(-5, 5) | st.integers(-(1 << 62), 1 << 62) | st.just(0)
natural = st.integers(0, 5) | st.integers(0, 1 << 62)
name = st.text(max_size=8)


class Near(int):
    """Nanoseconds from the present, when a message with it is sent."""


def at_present(part: Any, now: int) -> Any:
    if isinstance(part, Near):
        return now + int(part)
    if isinstance(part, (list, tuple)):
        return [at_present(one, now) for one in part]
    return {key: at_present(one, now) for key, one in part.items()} if isinstance(part, dict) else part


def messages() -> st.SearchStrategy[Any]:
    near = st.integers(-2 * SECOND, SECOND).map(Near) | instant
    busy = st.dictionaries(
        st.sampled_from(["gpu0", "cpu", ""]), st.lists(st.tuples(near, near), max_size=3), max_size=2
    )
    done = st.tuples(small, small, name, near, near, natural, natural, name, name, name, name, st.booleans(), busy)
    opens = st.tuples(small, near, natural, name, busy)
    model = st.tuples(
        small,
        name,
        name,
        st.none() | natural,
        st.none() | name,
        st.sampled_from(["cpu", "cuda:0"]),
        st.sampled_from(["", "gpu0"]),
    )
    reasons = st.dictionaries(st.sampled_from(["queue_full", "meter_lost"]), natural, max_size=2)
    batch = st.tuples(
        st.just("batch"), near, near, st.lists(st.tuples(near, natural, natural), max_size=3),
        st.lists(model, max_size=3), st.lists(opens, max_size=3), st.lists(done, max_size=4), natural, reasons,
        st.booleans(), st.dictionaries(st.just("gpu0"), st.tuples(near, natural), max_size=1),
    )  # fmt: skip
    return batch | st.tuples(st.just("flush"), natural)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(messages(), max_size=6))
def test_any_valid_messages_leave_the_books_balanced(meter_of_all, said):
    """What a lying worker may say: the meter goes on, no joule is negative or absurd, the shares add up."""
    peer = meter_of_all.join()
    try:
        meter_of_all.receive(peer, Hello(VERSION, 1, "shop"))
        for parts in said:
            body = msgspec.msgpack.encode(at_present(parts, time.monotonic_ns()))
            for message in Frames("worker").feed(frame(body)):
                meter_of_all.receive(peer, message)
            meter_of_all.tick()
    except ProtocolError:
        pass
    meter_of_all.leave(peer)
    meter_of_all.tick()
    for book in meter_of_all._ledger.sensors.values():
        shares = book.shares
        parts = [shares.requests, shares.process, shares.host, shares.idle, shares.pending]
        assert all(part >= 0 for part in parts), parts
        assert sum(parts) == pytest.approx(shares.measured, rel=1e-9, abs=1e-9)


@pytest.fixture(scope="module")
def meter_of_all(tmp_path_factory: pytest.TempPathFactory):
    from support.peers import recording

    from ecolyzer_otel.boot.assembly import prepare
    from ecolyzer_otel.common.config import Config

    sensors = [
        {"id": "cpu", "component": "cpu", "watts": 40.0, "idle_watts": 5.0},
        {"id": "gpu0", "component": "gpu", "watts": 200.0, "partitions": {"MIG-1": 0.5}},
    ]
    file = recording(tmp_path_factory.mktemp("fuzz") / "r.json", *sensors)
    setup = prepare(Config(port=0, sensors=f"replay:{file}", sampling_period=0.005))
    yield setup.meter
    setup.close()


# The worker's side: a meter that is slow, dead, wrong, older or newer.

WORKER = """
import sys, time, os, threading
from ecolyzer_otel.wire.link import SocketLink
from ecolyzer_otel.worker.background_thread import Worker
from ecolyzer_otel.worker.state import replace_state
from ecolyzer_otel.worker.spec import CallSpec, ModelFacts
from ecolyzer_otel.worker.wrap import leaf
import ecolyzer_otel.worker.hot_path as request, ecolyzer_otel.wire.link as link

class Engine:
    def infer(self):
        return "answer"
Engine.infer = leaf(Engine.infer, CallSpec("custom", "infer", lambda model: ModelFacts("engine")))
engine = Engine()
def begin(state):
    worker = Worker(state, SocketLink(sys.argv[1]), "shop")
    worker.start()
    return worker
here = replace_state(begin)
EXEC
"""


def worker(path: str, code: str) -> subprocess.Popen:
    script = WORKER.replace("EXEC", code)
    return subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


CALLS = """
slowest = 0.0
for n in range(300):
    began = time.perf_counter(); engine.infer(); slowest = max(slowest, time.perf_counter() - began)
    time.sleep(0.01)
print(here.worker.counts(), slowest)
"""


class Fake:
    """A meter by hand: what it accepts, it closes in the end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.links: list[socket.socket] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)

    def accept(self, seconds: float = PATIENCE) -> socket.socket | None:
        self.listener.settimeout(seconds)
        try:
            self.links.append(self.listener.accept()[0])
        except TimeoutError:
            return None
        return self.links[-1]


@pytest.fixture
def fake(tmp_path):
    one = Fake(str(tmp_path / "fake.sock"))
    yield one
    for link in (one.listener, *one.links):
        link.close()


MISBEHAVE = {
    "closes at once": [],
    "says nonsense": [b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10],
    "sends a frame over the limit": [(MAX_FRAME + 1).to_bytes(4, "big")],
    "claims to have accounted for too many": [encode(Settlements([], 10**9)), None],
    "settles what nobody asked for": [pack("settlements", [[n, "", float("nan")] for n in range(50)], 3), None],
    "refuses": [encode(Refused("it is Monday"))],
    "never says a word": [None],
}


@pytest.mark.parametrize("how", MISBEHAVE)
def test_a_meter_that_misbehaves_costs_the_service_nothing(fake, how):
    process = worker(fake.path, CALLS)
    deadline = time.monotonic() + AGES
    while process.poll() is None and time.monotonic() < deadline:
        link = fake.accept(0.2)
        if link is None:
            continue
        for part in MISBEHAVE[how]:
            if part is not None:
                link.sendall(part)
        if None not in MISBEHAVE[how]:
            link.close()
    out, err = process.communicate(timeout=AGES)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    counts, _, slowest = out.rstrip().rpartition(" ")
    told = eval(counts)
    assert told["served"] == 300
    assert told["served"] == told["accounted"] + told["dropped"] + told["pending"], told
    assert 0 <= told["accounted"] <= 300
    assert float(slowest) < 20.0, "a call that waits for the meter would wait for ever"
    assert err.count("it is Monday") == (how == "refuses"), "said once, and not asked again for a while"


FACTS = ["FR", 44.18, "lifecycle", "test", 1.0]
ALL_FACTS = list(msgspec.to_builtins(PlaceFacts(*FACTS)))
SETTLED = [1, "", 0.1, 0.2, 0.0, "measured", {}, 0.0, None, 0.0, 0.0, None, None, None, None, None]
ALL_SETTLED = list(msgspec.to_builtins(Settled(*SETTLED)))
METERS = {
    "older": (pack("welcome", VERSION, FACTS), pack("settlements", [SETTLED], 1)),
    "newer": (
        pack("welcome", VERSION, [*ALL_FACTS, "more"], "life", 0, {"of": "the future"}),
        pack("settlements", [[*ALL_SETTLED, "more"]], 1, [*ALL_FACTS, "more"], "more"),
    ),
}


@pytest.mark.parametrize("age", METERS)
def test_a_worker_is_served_by_an_older_and_by_a_newer_meter(fake, age):
    process = worker(fake.path, "engine.infer(); time.sleep(0.5); print(here.worker.counts())")
    link = fake.accept()
    welcome, settlements = METERS[age]
    link.sendall(welcome)
    frames = Frames("worker")
    while True:
        said = list(frames.feed(link.recv(1 << 16)))
        if any(isinstance(message, Batch) and message.done for message in said):
            break
    link.sendall(settlements)
    out, err = process.communicate(timeout=AGES)
    assert (process.returncode, err) == (0, "")
    assert eval(out) == {"served": 1, "accounted": 1, "dropped": 0, "pending": 0}


def test_a_meter_that_stops_reading_makes_the_queue_fill_drop_and_count(fake):
    """Back-pressure: nothing blocks, nothing grows without bound, what is lost is counted."""
    code = """
request.MAX_WAITING = 2000
link._CONGESTED = 50_000
slowest = 0.0
for n in range(60_000):
    began = time.perf_counter(); engine.infer(); slowest = max(slowest, time.perf_counter() - began)
    if n % 1000 == 0: time.sleep(0.05)
print(len(here.done), len(here.worker._link._unsent), here.worker.counts(), slowest, sep=";")
"""
    process = worker(fake.path, code)
    fake.accept().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    out, err = process.communicate(timeout=AGES)
    assert process.returncode == 0, err
    queue, waiting, counts, slowest = out.split(";")
    told = eval(counts)
    assert int(queue) <= 2000
    assert int(waiting) < 1_000_000
    assert told["served"] == 60_000 == told["accounted"] + told["dropped"] + told["pending"]
    assert told["dropped"] > 10_000
    assert float(slowest) < 20.0, "a call that waits for the meter would wait for ever"


def test_a_frozen_meter_that_thaws_counts_each_request_once(tmp_path):
    """Stopped for longer than the worker's patience: it connects anew, and the meter knows it for the same."""
    script = (
        "import sys; from ecolyzer_otel.boot.agent import run; from ecolyzer_otel.common.config import Config; "
        "run(Config(port=int(sys.argv[2]), agent_socket=sys.argv[1], sensors='modelled'))"
    )
    from support.ports import free_port
    from support.processes import Program
    from support.waiting import until

    from tests.serving.conftest import Metrics

    path, port = str(tmp_path / "agent.sock"), free_port()
    out = tmp_path / "agent.err"
    with out.open("wb") as file:
        agent = subprocess.Popen([sys.executable, "-c", script, path, str(port)], stderr=file)
    listening = Program("the agent", agent, out)
    try:
        until(lambda: "agent on" in listening.output, "it listens", listening)
        code = """
link._STALLED_SECONDS = 0.5
link._CONGESTED = 2000
for n in range(2000):
    engine.infer(); time.sleep(0.002)
    if n == 500: print("freeze", flush=True)
assert here.worker.flush(60)
print(here.worker.counts(), flush=True)
time.sleep(240)
"""
        process = worker(path, code)
        try:
            assert process.stdout.readline() == "freeze\n"
            agent.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
            agent.send_signal(signal.SIGCONT)
            told = eval(process.stdout.readline())
            assert told["served"] == 2000
            assert told["pending"] == 0
            time.sleep(1.2)  # a page of the agent is up to a second old
            metrics = Metrics.of(port)
            assert metrics.accounted == 2000
            assert metrics.total("ecolyzer_dropped_requests_total") == told["dropped"]
            assert metrics.total("ecolyzer_pending_requests") == 0
        finally:
            process.kill()
            process.communicate()
    finally:
        agent.kill()
        agent.wait()


def test_the_frame_of_a_full_batch_is_within_the_limit():
    from ecolyzer_otel.worker.reports import _CHUNK

    word = "é" * MAX_NAME
    peer_done = [
        (n, 0, word, NOW, NOW, NOW, 1, word, word, "a" * 32, "b" * 16, True, {"gpu0": [(NOW, NOW)] * 64})
        for n in range(_CHUNK)
    ]
    body = pack("batch", NOW, NOW, [], [], [], peer_done, 1, {})
    (message,) = Frames("worker").feed(body)
    assert isinstance(message, Batch)
    assert len(body) < MAX_FRAME


def test_the_levels_of_the_log_are_the_operators(meter, caplog):
    caplog.set_level(logging.INFO)
    running = meter()
    running.peer().hello("shop")
    running.wait_until(lambda: "of service shop is connected" in caplog.text)
    assert f"process {os.getpid()}" in caplog.text


def test_limits_are_what_the_documentation_says():
    assert (MAX_FRAME, MAX_DONE, MAX_NAME) == (4 << 20, 2000, 256)
    assert (limits.MAX_IN_FLIGHT, limits.MAX_MODELS) == (100_000, 20_000)
    assert MODEL.key == 0
