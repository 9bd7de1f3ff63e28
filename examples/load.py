"""Steady traffic to the service of ``serve.py``: random requests to all of its endpoints, up to a given rate.

python examples/load.py --url http://127.0.0.1:8000 --rate 5 --seconds 0

Waits for the service to start, also after a restart; ends on SIGTERM or Ctrl-C. Logs one line a minute.
"""

from __future__ import annotations

import argparse
import http.client
import random
import signal
import sys
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from demo_parts.common import DemoError, exchange
from demo_parts.service import endpoints
from demo_parts.traffic import CLIENTS, payloads

LONGEST_WAIT_SECONDS = 5.0
REPORT_SECONDS = 60.0


class Pace:
    """Start times of requests, common to all clients, ``1 / rate`` apart; missed ones are not made up for."""

    def __init__(self, rate: float) -> None:
        self._apart = 1.0 / rate
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event, until: float) -> bool:
        """Wait for the next start time; False if ``stop`` is set or ``until`` comes first."""
        with self._lock:
            at = self._next = max(time.monotonic(), self._next + self._apart)
        return not stop.wait(min(at, until) - time.monotonic()) and at < until


class Load:
    """Clients of one service, until :meth:`run` is interrupted or its time is up."""

    def __init__(self, host: str, port: int, rate: float, seconds: float) -> None:
        self.url = f"http://{host}:{port}"
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._host, self._port = host, port
        self._pace = Pace(rate)
        self._until = time.monotonic() + seconds if seconds else float("inf")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._reported = time.monotonic()
        self._counted: Counter[str] = Counter()

    def run(self) -> None:
        try:
            while time.monotonic() < self._until:
                if offered := self._wait_until_up():
                    self._round(offered)
        finally:
            self._stop.set()

    def _wait_until_up(self) -> list[str]:
        """Wait for the service; returns its endpoints, none if the time is up first."""
        logged = False
        wait = 0.25
        while self._pace.wait(threading.Event(), self._until):
            try:
                offered = endpoints(self._port, self._host)
            except (OSError, http.client.HTTPException, DemoError, ValueError) as error:
                if not logged:
                    log(f"waiting for {self.url}: {reason(error)}")
                logged = True
            else:
                log(f"sending to {', '.join(offered)} of {self.url}")
                return offered
            time.sleep(max(0.0, min(wait, self._until - time.monotonic())))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        return []

    def _round(self, offered: list[str]) -> None:
        """Send until the connection is lost or the time is up."""
        self._stop = threading.Event()
        choices: dict[str, list[tuple[str, str, bytes]]] = {}
        for one in payloads(offered, full=True):
            choices.setdefault(one[0].partition("?")[0], []).append(one)
        if not choices:
            raise DemoError(f"{self.url} has no endpoint that this client supports")
        clients = [threading.Thread(target=self._client, args=(choices,), daemon=True) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        while not self._stop.wait(min(1.0, max(0.0, self._until - time.monotonic()))):
            self._report()
            if time.monotonic() >= self._until:
                self._stop.set()
        for client in clients:
            client.join(15)
        if time.monotonic() < self._until:
            # Do not retry at once: the service may answer some requests and fail at others.
            time.sleep(1.0)

    def _client(self, choices: dict[str, list[tuple[str, str, bytes]]]) -> None:
        chance = random.Random()
        stop = self._stop
        while self._pace.wait(stop, self._until):
            # Choose the endpoint first, so that endpoints with few kinds of requests are not rare.
            endpoint = chance.choice(list(choices))
            path, kind, body = one = chance.choice(choices[endpoint])
            try:
                status, _ = exchange(self._port, "POST", path, body, kind, self._host)
            except (OSError, http.client.HTTPException) as error:
                self._count(self.failed, endpoint)
                with self._lock:
                    if not stop.is_set():
                        log(f"lost {self.url}: {reason(error)}")
                    stop.set()
                return
            if status == 404 and "?" in path:
                # The service lacks this precision. Another client may have removed it already.
                choices[endpoint] = [other for other in choices[endpoint] if other is not one]
            else:
                self._count(self.answered if status == 200 else self.failed, endpoint)

    def _count(self, counter: Counter[str], endpoint: str) -> None:
        with self._lock:
            counter[endpoint] += 1

    def _report(self) -> None:
        passed = time.monotonic() - self._reported
        if passed >= REPORT_SECONDS:
            with self._lock:
                answered, self._counted = self.answered - self._counted, self.answered.copy()
            self._reported = time.monotonic()
            rate = f"{answered.total()} answered in {passed:.0f} s ({answered.total() / passed:.1f}/s)"
            parts = ", ".join(f"{endpoint} {count}" for endpoint, count in sorted(answered.items()))
            log(f"{rate}: {parts or 'none'}; failed so far: {self.failed.total()}")


def reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def log(text: str) -> None:
    print(f"load: {text}", flush=True)


def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--rate", type=float, default=5.0, help="most requests per second (5)")
    parser.add_argument("--seconds", type=float, default=0.0, help="duration; 0: until interrupted")
    given = parser.parse_args()
    try:
        parts = urlsplit(given.url)
        given.host, given.port = parts.hostname, parts.port or 80
    except ValueError:
        given.host = None
    if not given.host or not given.url.startswith("http://") or parts.path.strip("/"):
        parser.error(f"--url: {given.url!r} is not valid; give http://HOST:PORT")
    if not 0 < given.rate <= 1000:
        parser.error("--rate: give more than 0 and at most 1000 requests per second")
    if not 0 <= given.seconds < float("inf"):
        parser.error("--seconds: give 0 or more")
    return given


def main() -> int:
    given = options()
    # Explicit handlers: PID 1 of a container has no default action for these signals.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    load = Load(given.host, given.port, given.rate, given.seconds)
    try:
        load.run()
    except DemoError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    log(f"{load.answered.total()} requests answered, {load.failed.total()} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
