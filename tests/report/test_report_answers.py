"""Servers that answer oddly, not at all, or with what must be told: documented JSON on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.ports import free_port

from ecolyzer_otel.errors import ConfigError
from ecolyzer_otel.report.from_prometheus import from_prometheus
from ecolyzer_otel.report.prometheus import Prometheus


class Odd:
    """A server whose answer the test chooses."""

    def __init__(self) -> None:
        self.status, self.body, self.kind = 200, b"{}", "application/json"
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self.answers: Callable[[str, dict[str, list[str]]], Any] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = parse_qs(parts.query)
                outer.asked.append((parts.path, asked, self.headers.get("Authorization", "")))
                body = outer.body
                if outer.answers is not None:
                    data = {"resultType": "matrix", "result": outer.answers(parts.path, asked)}
                    body = json.dumps({"status": "success", "data": data, "warnings": ["partial"]}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", outer.kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def odd() -> Iterator[Odd]:
    made = Odd()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>hello</html>", "is not a Prometheus .*; give the address under which /api/v1/query"),
        (200, b'{"status":"success"}', "is not a Prometheus"),
        (200, b'{"status":"success","data":{"result":[{"metric":7}]}}', "is not a Prometheus"),
        (404, b"not found", r"is not a Prometheus \(HTTP 404\)"),
        (401, b"", "refuses access .HTTP 401.; put a bearer token into ECOLYZER_PROMETHEUS_TOKEN"),
        (403, b"", "refuses access"),
        (422, b'{"status":"error","error":"too many samples\\nmore"}', "422: too many samples.; ask for a shorter"),
        (503, b'{"status":"error","error":"timed out"}', "timed out"),
    ],
)
def test_an_answer_that_is_none_is_one_line_with_a_remedy(odd: Odd, status: int, body: bytes, message: str) -> None:
    odd.status, odd.body = status, body
    with pytest.raises(ConfigError, match=message) as caught:
        from_prometheus(Prometheus(odd.url), 1.7e9, 1.7e9 + 3600)
    assert caught.value.key == "--prometheus"
    assert "\n" not in str(caught.value)


def test_nobody_listens() -> None:
    with pytest.raises(ConfigError, match=r"does not answer .*refused.*; check the address"):
        from_prometheus(Prometheus(f"http://127.0.0.1:{free_port()}"), 0.0, 3600.0)


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = Prometheus(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.2)
        with pytest.raises(ConfigError, match="does not answer"):
            server.query("up", 0.0)


@pytest.mark.parametrize("url", ["localhost:9090", "ftp://x", "", "http://", "http://x:port", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match=r"not an http.s. address"):
        Prometheus(url)


def test_credentials_are_sent_and_never_shown(odd: Odd) -> None:
    secret = odd.url.replace("://", "://ann:s%40cret@") + "/prometheus/?x=1"
    server = Prometheus(secret, token="unused")
    with pytest.raises(ConfigError) as caught:
        server.query("up", 0.0)
    assert odd.asked[0][0] == "/prometheus/api/v1/query"
    assert odd.asked[0][2] == "Basic YW5uOnNAY3JldA=="  # ann:s@cret
    assert "cret" not in str(caught.value)
    assert "ann" not in server.where
    with pytest.raises(ConfigError):
        Prometheus(odd.url, token=" t0ken\n").query("up", 0.0)
    assert odd.asked[1][2] == "Bearer t0ken"


def test_a_redirect_takes_no_credentials_along(odd: Odd) -> None:
    other = Odd()
    try:
        odd.server.RequestHandlerClass.do_GET = lambda self: (  # type: ignore[attr-defined]
            self.send_response(302), self.send_header("Location", other.url + self.path), self.end_headers()
        )  # fmt: skip
        with pytest.raises(ConfigError):
            Prometheus(odd.url, token="t0ken").query("up", 0.0)
        assert other.asked[0][2] == ""
    finally:
        other.server.shutdown()
        other.server.server_close()


def test_the_same_meter_scraped_twice_is_told_loudly(odd: Odd) -> None:
    def answers(path: str, asked: dict[str, list[str]]) -> Any:
        query = asked.get("query", [""])[0]
        if "ecolyzer_build_info" not in query or not path.endswith("query_range"):
            return []
        labels = [{"instance": "a:9465", "job": job, "version": "1"} for job in ("one", "two")]
        return [{"metric": each, "values": [[1.7e9 + 60 * n, "4"] for n in range(1, 61)]} for each in labels]

    odd.answers = answers
    notes = from_prometheus(Prometheus(odd.url), 1.7e9, 1.7e9 + 3600).notes
    severe = [note.text for note in notes if note.severity == "severe"]
    assert severe == [
        "a:9465 is scraped more than once at the same time (instance=a:9465, job=one; instance=a:9465, job=two): "
        "its figures count as often. Choose one with --selector."
    ]
    assert any(note.text == "Prometheus says: partial" for note in notes)


def test_a_resource_limit_of_one_chunk(odd: Odd) -> None:
    """No query asks for more points than Prometheus gives (11 000)."""
    odd.answers = lambda path, asked: (
        [{"metric": {"instance": "a"}, "values": [[float(asked["end"][0]), "1"]]}]
        if "build_info" in asked.get("query", [""])[0] and path.endswith("range")
        else []
    )
    from_prometheus(Prometheus(odd.url), 1.6e9, 1.6e9 + 400 * 86400.0)
    ranges = [asked for path, asked, _ in odd.asked if path.endswith("query_range")]
    points = [(float(one["end"][0]) - float(one["start"][0])) / float(one["step"][0]) for one in ranges]
    assert max(points) <= 1000
    assert max(float(one["end"][0]) for one in ranges) == pytest.approx(1.6e9 + 400 * 86400.0)
