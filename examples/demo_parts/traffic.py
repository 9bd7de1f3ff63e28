"""Clients that send the files and rows of ``examples/inputs``."""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from demo_parts.common import DemoError

INPUTS = Path(__file__).resolve().parent.parent / "inputs"
CLIENTS = 4
TEXTS = [
    "How much energy did this answer take?",
    "What does one request cost in joules?",
    "The cat sits on the warm server.",
    "It rained all day.",
]


def payloads(offered: Collection[str], full: bool) -> list[tuple[str, str, bytes]]:
    """Path, content type and body of each kind of request to a service with these endpoints."""
    files = sorted(INPUTS.iterdir())
    tumours = json.loads((INPUTS / "tumours.json").read_text())["rows"]
    found = [("/filetype", "application/octet-stream", path.read_bytes()) for path in files]
    for size in (1, 4, len(tumours)):
        found += [("/tumour", "application/json", json.dumps({"rows": tumours[:size]}).encode())] * 4
    found += [("/digits", "application/json", (INPUTS / "digits.json").read_bytes())] * len(files)
    found += [("/ocr", "image/png", (INPUTS / "note.png").read_bytes())] * 2
    found += [("/speech", "audio/wav", (INPUTS / "speech.wav").read_bytes())] * 2
    texts = json.dumps({"texts": TEXTS}).encode()
    for precision in ("fp32", "bf16", "int8") if full else ("fp32",):
        found += [(f"/embed?precision={precision}", "application/json", texts)] * 4
    for text, tokens in zip(TEXTS, (10, 20, 40, 80), strict=True):
        found.append(("/continue", "application/json", json.dumps({"text": text, "tokens": tokens}).encode()))
    return [one for one in found if one[0].partition("?")[0] in offered]


class Traffic:
    """Clients that send requests with pauses of some hundredths of a second."""

    def __init__(self, port: int, seconds: float, offered: Collection[str]) -> None:
        self.port, self.seconds = port, seconds
        self.choices = payloads(offered, os.environ.get("FULL") == "1")
        self.sent: Counter[int] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()

    def run(self) -> int:
        """Run the clients; returns the number of answered requests."""
        clients = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(CLIENTS)]
        began = time.monotonic()
        for client in clients:
            client.start()
        try:
            while any(client.is_alive() for client in clients):
                left = self.seconds - (time.monotonic() - began)
                self._stop.wait(min(1.0 if live() else 10.0, max(0.1, left)))
                if live() or left > 10.0:
                    self._report(began)
        finally:
            self._stop.set()
            for client in clients:
                client.join(15)
        self._report(began)
        if live():
            print()
        if self.failures:
            raise DemoError(f"a request failed: {self.failures[0]}")
        return self.sent.total()

    def _report(self, began: float) -> None:
        passed = min(time.monotonic() - began, self.seconds)
        sent = self.sent.total()
        progress(f"{passed:3.0f} of {self.seconds:.0f} s  {sent:,} requests  {sent / max(passed, 1):.0f}/s")

    def _client(self, number: int) -> None:
        chance = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        until = time.monotonic() + self.seconds
        try:
            while time.monotonic() < until and not self._stop.is_set():
                path, kind, body = chance.choice(self.choices)
                connection.request("POST", path, body, {"Content-Type": kind})
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    raise DemoError(f"{path} answered {response.status}: {answer[:200]!r}")
                self.sent[number] += 1
                time.sleep(min(chance.expovariate(1 / 0.03), 0.3))
        except (OSError, http.client.HTTPException, DemoError) as error:
            self.failures.append(str(error) or type(error).__name__)
            self._stop.set()
        finally:
            connection.close()


def live() -> bool:
    return sys.stdout.isatty()


def progress(text: str) -> None:
    print(f"\r  {text}\033[K" if live() else f"  {text}", end="" if live() else "\n", flush=True)
