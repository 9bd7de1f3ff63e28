"""A meter behind a real Unix socket, and peers that say whatever a test wants them to."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecolyzer_otel.boot.assembly import Setup, prepare
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.export.exposition import render
from ecolyzer_otel.wire.protocol import (
    VERSION,
    Batch,
    Done,
    Flush,
    Flushed,
    Frames,
    Hello,
    Model,
    Open,
    PlaceFacts,
    Settlements,
    Welcome,
    encode,
)
from ecolyzer_otel.wire.server import Server
from support.waiting import PATIENCE, until

MODEL = Model(0, "engine", "custom", 1000, "float32", "cpu")


def recording(path: Path, *sensors: dict[str, Any], seconds: int = 60, step_ns: int = 5_000_000) -> Path:
    """Counters that grow at ``watts`` for a minute, a step every 5 ms."""
    entries = []
    for sensor in sensors:
        watts = sensor.pop("watts")
        steps = range(seconds * 1_000_000_000 // step_ns)
        samples = [[step * step_ns, step * step_ns / 1e9 * watts] for step in steps]
        entries.append({"method": "measured", "idle_watts": 0.0, "samples": samples, **sensor})
    path.write_text(json.dumps({"sensors": entries}))
    return path


class Peer:
    """The other end of a connection, by hand."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(path)
        self.frames = Frames("meter")
        self.heard: list[Any] = []
        self.ids = 0
        self.served = 0

    def say(self, *messages: Any) -> None:
        self.socket.sendall(b"".join(encode(message) for message in messages))

    def hello(self, service: str = "shop", **more: Any) -> Welcome:
        self.say(Hello(VERSION, 1, service, **more))
        return self.wait_for(Welcome)

    def wait_for(self, kind: type, seconds: float = PATIENCE) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            for message in self.heard:
                if isinstance(message, kind):
                    self.heard.remove(message)
                    return message
            assert time.monotonic() < deadline, f"no {kind.__name__} in {self.heard}"
            data = self.socket.recv(1 << 16)
            assert data, f"closed before {kind.__name__}; heard {self.heard}"
            self.heard += self.frames.feed(data)

    def done(self, count: int = 1, *, milliseconds: float = 5.0, **more: Any) -> list[Done]:
        """So many requests, one after the other, that ended just now."""
        now = time.monotonic_ns()
        length = int(milliseconds * 1e6)
        result = []
        for index in range(count):
            self.ids += 1
            end = now - (count - 1 - index) * length
            facts = {"cpu_ns": length, "items": 1, "error": "", "route": "", "trace_id": "", "span_id": ""}
            facts |= {"want": False, "operation": "infer", "start_ns": end - length, "end_ns": end} | more
            result.append(Done(id=self.ids, model=0, **facts))
        return result

    def batch(self, done: list[Done] = (), *, opens: list[Open] = (), **more: Any) -> Batch:  # type: ignore[assignment]
        now = time.monotonic_ns()
        self.served += len(done)
        # Quiet, so that the meter does not wait for the next report, which may never come.
        facts = {"now_ns": now, "watermark_ns": now, "clocks": [], "models": [MODEL], "dropped": {}, "quiet": True}
        return Batch(**(facts | {"open": list(opens), "done": list(done), "served": self.served} | more))

    def is_closed(self, seconds: float = PATIENCE) -> bool:
        self.socket.settimeout(seconds)
        try:
            while data := self.socket.recv(1 << 16):
                self.heard += self.frames.feed(data)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        self.socket.close()


class Running:
    """A meter that serves a socket from a thread of the tests."""

    def __init__(self, setup: Setup, path: Path) -> None:
        self.setup, self.path = setup, str(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(64)
        self.server = Server(setup.meter, listener, [])
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        time.sleep(0.3)  # readings from before the first request
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        self.peers.append(Peer(self.path))
        return self.peers[-1]

    def metrics(self) -> dict[str, float]:
        lines = render(self.setup.meter.store, False).decode().splitlines()
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    def total(self, name: str, *parts: str) -> float:
        found = self.metrics().items()
        return sum(v for k, v in found if k.partition("{")[0] == name and all(part in k for part in parts))

    def wait_until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        until(condition, self.metrics, seconds=seconds)

    def settled(self, count: int, *parts: str) -> None:
        self.wait_until(lambda: self.total("ecolyzer_requests_total", *parts) >= count)
        assert self.total("ecolyzer_requests_total", *parts) == count

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.server.stop()
        self.thread.join(PATIENCE)
        self.setup.close()
        self.server.close_all()


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """``meter(sensor, ...)`` runs one with recorded counters (default: a CPU of 40 W) behind a socket."""
    running: list[Running] = []

    def start(*sensors: dict[str, Any], shared: bool = False, **options: Any) -> Running:
        number = len(running)
        file = recording(
            tmp_path / f"{number}.json", *(sensors or ({"id": "cpu", "component": "cpu", "watts": 40.0},))
        )
        settings = {"port": 0, "zone": "FR", "sensors": f"replay:{file}", "sampling_period": 0.02} | options
        running.append(Running(prepare(Config(**settings), shared=shared), tmp_path / f"{number}.sock"))
        return running[-1]

    yield start
    for one in running:
        with contextlib.suppress(Exception):
            one.close()


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


class Listener:
    """A meter that only listens: says welcome, and keeps every record that workers send."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.done: list[Done] = []
        self.opens: list[Open] = []
        self.batches: list[Batch] = []
        self.ended = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen(16)
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._socket.accept()
                self._links.append(link)
                threading.Thread(target=self._hear, args=(link,), daemon=True).start()

    def _hear(self, link: socket.socket) -> None:
        frames, accounted = Frames("worker"), 0
        with contextlib.suppress(OSError):
            while data := link.recv(1 << 16):
                for message in frames.feed(data):
                    if isinstance(message, Hello):
                        link.sendall(encode(Welcome(VERSION, PLACE, "listener", 0)))
                    elif isinstance(message, Batch):
                        self.batches.append(message)
                        self.done += message.done
                        self.opens += message.open
                        accounted += len(message.done)
                        link.sendall(encode(Settlements([], accounted)))
                    elif isinstance(message, Flush):
                        link.sendall(encode(Flushed(message.number)))
        self.ended += 1

    def close(self) -> None:
        for link in (self._socket, *self._links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()


PLACE = PlaceFacts("FR", 44.18, "lifecycle", "test", 1.0)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    one = Listener(tmp_path / "listener.sock")
    yield one
    one.close()
