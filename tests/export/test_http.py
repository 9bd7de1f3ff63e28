from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from support.waiting import until

from ecolyzer_otel.export.exposition import CLASSIC_CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE, render
from ecolyzer_otel.export.http import MetricsServer
from ecolyzer_otel.export.pages import accepts_gzip, accepts_openmetrics
from ecolyzer_otel.export.store import MetricStore

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def well() -> tuple[bool, dict[str, Any]]:
    return True, {"sensors": 1}


@pytest.fixture
def serve(full_store: MetricStore) -> Iterator[Callable[..., MetricsServer]]:
    servers: list[MetricsServer] = []

    def start(host: str = "127.0.0.1", health: Any = well) -> MetricsServer:
        servers.append(MetricsServer(full_store, host=host, port=0, health=health))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def ask(
    server: MetricsServer, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=0.0.1", False),
        (PROMETHEUS_2, True),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
            True,
        ),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.7", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x;;=,", False),
    ],
)
def test_openmetrics_is_given_to_those_who_prefer_it(accept: str, openmetrics: bool) -> None:
    assert accepts_openmetrics(accept) is openmetrics


@pytest.mark.parametrize(
    ("header", "yes"),
    [("", False), ("gzip", True), ("deflate, gzip;q=0.5", True), ("gzip;q=0", False), ("*", True), ("br", False)],
)
def test_gzip_is_given_to_those_who_take_it(header: str, yes: bool) -> None:
    assert accepts_gzip(header) is yes


def test_metrics_in_both_formats(serve: Callable[..., MetricsServer], full_store: MetricStore) -> None:
    server = serve()
    response, body = ask(server, "/metrics", Accept=PROMETHEUS_2)
    assert (response.status, response.headers["Content-Type"]) == (200, OPENMETRICS_CONTENT_TYPE)
    assert body == render(full_store, True)
    response, body = ask(server, "/metrics?name=x")
    assert (response.status, response.headers["Content-Type"]) == (200, CLASSIC_CONTENT_TYPE)
    assert body == render(full_store, False)


def test_metrics_compressed(serve: Callable[..., MetricsServer], full_store: MetricStore) -> None:
    response, body = ask(serve(), "/metrics", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == render(full_store, False)


def test_head_has_the_headers_of_get_and_no_body(serve: Callable[..., MetricsServer]) -> None:
    server = serve()
    got, body = ask(server, "/metrics")
    response, nothing = ask(server, "/metrics", "HEAD")
    assert nothing == b""
    assert response.headers["Content-Length"] == got.headers["Content-Length"] == str(len(body))


def test_health_is_200_or_503_with_details(serve: Callable[..., MetricsServer]) -> None:
    response, body = ask(serve(), "/healthz")
    assert (response.status, json.loads(body)) == (200, {"sensors": 1})
    response, body = ask(serve(health=lambda: (False, {"reason": "no sensor"})), "/healthz")
    assert (response.status, json.loads(body)) == (503, {"reason": "no sensor"})


def test_other_pages(serve: Callable[..., MetricsServer]) -> None:
    server = serve()
    response, body = ask(server, "/")
    assert response.status == 200
    assert b"/metrics" in body
    assert b"/healthz" in body
    assert ask(server, "/elsewhere")[0].status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        response, _ = ask(server, "/metrics", method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_gauges_can_be_made_fresh_and_a_failure_of_that_does_not_matter(
    serve: Callable[..., MetricsServer], full_store: MetricStore, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def refresh() -> None:
        calls.append(1)
        raise RuntimeError("sensor gone")

    full_store.refresh = refresh
    server = serve()
    assert ask(server, "/metrics")[0].status == 200
    ask(server, "/healthz")
    assert calls == [1]
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_ours_is_a_500_and_the_server_lives_on(serve: Callable[..., MetricsServer]) -> None:
    def broken() -> tuple[bool, dict[str, Any]]:
        raise RuntimeError("health")

    server = serve(health=broken)
    assert ask(server, "/healthz")[0].status == 500
    assert ask(server, "/metrics")[0].status == 200


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01\xfc", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b""])
def test_junk_does_not_hurt_and_is_not_logged(
    serve: Callable[..., MetricsServer], junk: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(junk)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass
    assert ask(server, "/metrics")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_clients_that_leave_early_are_not_noticed(
    serve: Callable[..., MetricsServer], capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve()
    for _ in range(10):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        client.close()
    assert ask(server, "/metrics")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_connections_are_bounded_and_idle_ones_end(
    serve: Callable[..., MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecolyzer_otel.export.http._TOTAL_SECONDS", 1.0)
    server = serve()
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
    try:
        until(lambda: threading.active_count() >= before + 16, "16 connections are served")
        response, _ = ask(server, "/metrics")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert threading.active_count() == before + 16
        for client in idle:
            client.settimeout(60.0)
            client.sendall(b"G")  # a byte now and then does not keep it open
            assert client.recv(1) == b""
        assert ask(server, "/metrics")[0].status == 200
    finally:
        for client in idle:
            client.close()


def test_many_scrapes_at_once(serve: Callable[..., MetricsServer]) -> None:
    server = serve()
    bodies: list[bytes] = []
    clients = [
        threading.Thread(target=lambda: bodies.append(ask(server, "/metrics", Accept=PROMETHEUS_2)[1]))
        for _ in range(12)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(bodies) == 12
    for body in bodies:
        list(parse_openmetrics(body.decode()))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_an_error_at_once(serve: Callable[..., MetricsServer], host: str) -> None:
    server = serve()
    with pytest.raises(OSError, match="in use"):
        MetricsServer(MetricStore(), host=host, port=server.port, health=well)


def test_a_host_that_is_not_ours_is_an_error_at_once() -> None:
    with pytest.raises(OSError, match="assign"):
        MetricsServer(MetricStore(), host="192.0.2.1", port=0, health=well)


def test_ipv6(serve: Callable[..., MetricsServer]) -> None:
    try:
        server = serve("::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert server.url == f"http://[::1]:{server.port}"
    assert ask(server, "/metrics")[0].status == 200


def test_stopping_frees_the_port_and_may_be_repeated(full_store: MetricStore) -> None:
    server = MetricsServer(full_store, host="127.0.0.1", port=0, health=well)
    server.start()
    server.start()
    assert ask(server, "/metrics")[0].status == 200
    server.stop()
    server.stop()
    again = MetricsServer(full_store, host="127.0.0.1", port=server.port, health=well)
    again.stop()  # never started


def test_a_forked_child_does_not_keep_the_port(full_store: MetricStore) -> None:
    server = MetricsServer(full_store, host="127.0.0.1", port=0, health=well)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # lives until the parent closes the pipe
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        time.sleep(0.2)
        server.stop()
        MetricsServer(full_store, host="127.0.0.1", port=server.port, health=well).stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=2)
    finally:
        os.close(writer)
        os.waitpid(child, 0)
