"""``examples/load.py`` in a process of its own against a tiny real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.processes import Program
from support.waiting import AGES, PATIENCE, until

LOAD = Path(__file__).parents[2] / "examples/load.py"


class Service(ThreadingHTTPServer):
    """Lists some of the endpoints of serve.py and notes what comes."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.posts: list[tuple[str, bytes]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()

    def wait_for(self, posts: int, load: Program) -> None:
        until(lambda: len(self.posts) >= posts, f"{posts} requests", load)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        offered = ("GET /health", "POST /digits", "POST /embed", "POST /continue", "POST /unheard-of")
        self._answer(200, json.dumps(dict.fromkeys(offered, "")).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, body))
        self._answer(404 if "bf16" in self.path else 200, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def service():
    one = Service()
    yield one
    one.end()


@pytest.fixture
def load(tmp_path):
    started: list[Program] = []

    def start(port: int, *options: str) -> Program:
        command = [sys.executable, str(LOAD), "--url", f"http://127.0.0.1:{port}", *options]
        out = tmp_path / f"load{len(started)}.out"
        with out.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        started.append(Program("load.py", process, out))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_every_endpoint_offered_gets_requests_at_no_more_than_the_rate(service, load):
    running = load(service.server_port, "--rate", "20", "--seconds", "4")
    assert running.process.wait(AGES) == 0, running.told()
    assert 20 < len(service.posts) <= 80
    paths = Counter(path for path, _ in service.posts)
    assert {path.partition("?")[0] for path in paths} == {"/digits", "/embed", "/continue"}
    assert paths["/embed?precision=bf16"] <= 4, "each client asks at most once for what is not there"
    assert all(json.loads(body) for _, body in service.posts)
    answered = len(service.posts) - paths["/embed?precision=bf16"]
    assert running.output.splitlines()[-1] == f"load: {answered} requests answered, 0 failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_waits_for_the_service_survives_its_restart_and_ends_cleanly(load, number):
    first = Service()
    port = first.server_port
    first.end()
    running = load(port, "--rate", "50")
    time.sleep(1.0)
    first = Service(port)
    first.wait_for(5, running)
    first.end()
    time.sleep(1.0)
    second = Service(port)
    second.wait_for(5, running)
    running.process.send_signal(number)
    status = running.process.wait(PATIENCE)
    second.end()
    output = running.output
    assert status == 0, output
    assert "Traceback" not in output
    # Refused while it was away: once at the start, once more where the restart took longer than its first look.
    assert output.count("load: waiting for") in (1, 2)
    assert output.count("load: lost") == 1
    assert output.count("load: sending to") == 2


@pytest.mark.parametrize(
    "wrong", [("--url", "ftp://x"), ("--url", "http://h/path"), ("--rate", "0"), ("--seconds", "-1")]
)
def test_an_option_that_cannot_be_used_is_named(load, wrong):
    running = load(1, *wrong)
    assert running.process.wait(AGES) == 2, running.told()
    assert f"error: {wrong[0]}" in running.output
