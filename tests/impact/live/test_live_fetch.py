"""The one place that opens connections: bounds in time and size, redirects, TLS, Retry-After."""

from __future__ import annotations

import ssl
import subprocess
import time
from email.utils import formatdate

import pytest
from live_server import Answer, Server

from ecolyzer_otel.impact.live.fetch import Fetcher, retry_after
from ecolyzer_otel.impact.live.figure import Problem


def outcome(url: str, **options: float) -> str:
    with pytest.raises(Problem) as caught:
        Fetcher({}, **options).get(url)
    return caught.value.outcome


def drip(prefix: bytes):
    def raw(handler):
        handler.wfile.write(prefix)
        for _ in range(1200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)

    return raw


@pytest.mark.parametrize(
    "prefix",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Header: ", b"HTTP/1.1 200 "],
    ids=["body", "header", "status"],
)
def test_a_server_that_drips_does_not_hold_longer_than_the_whole_may_take(server, prefix):
    server.answer = lambda asked: Answer(raw=drip(prefix))
    begun = time.monotonic()
    assert outcome(server.url, total_timeout=0.4) == "timeout"
    assert time.monotonic() - begun < 30.0, "it would drip for 60 s"


def test_a_server_that_says_nothing(server):
    server.answer = lambda asked: Answer(raw=lambda handler: server.ending.wait(60.0))
    assert outcome(server.url, read_timeout=0.1) == "timeout"


def test_nobody_listens(server):
    server.close()
    assert outcome(server.url) == "network"
    server.close = lambda: None


def endless(head: bytes):
    def raw(handler):
        handler.wfile.write(head)
        for _ in range(200):
            handler.wfile.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")

    return raw


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
    ],
    ids=["chunked", "plain", "redirect", "error"],
)
def test_an_endless_answer_is_cut_off(server, head):
    server.answer = lambda asked: Answer(raw=endless(head))
    assert outcome(server.url) in ("too_large", "http_5xx")


def test_a_length_that_is_too_large_is_not_read(server):
    server.answer = lambda asked: Answer(
        raw=lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    )
    assert outcome(server.url) == "too_large"


def test_compressed_answers_are_not_asked_for(server):
    server.answer = lambda asked: Answer("{}")
    Fetcher({}).get(server.url)
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_a_redirect_within_the_host_is_followed_with_its_headers(server):
    server.answer = lambda asked: (
        Answer("done") if asked.path == "/b" else Answer(status=302, headers={"Location": "/b"})
    )
    assert Fetcher({}).get(f"{server.url}/a", {"auth-token": "t"}) == b"done"
    assert server.asked[1].headers["auth-token"] == "t"


def test_a_redirect_to_another_host_is_not_followed(server):
    other = Server(lambda asked: Answer("{}"))
    for target in (other.url, "https://127.0.0.1/", "file:///etc/passwd", "ftp://127.0.0.1/", "//127.0.0.9/x"):
        server.answer = lambda asked, target=target: Answer(status=301, headers={"Location": target})
        assert outcome(server.url) == "redirect"
    assert other.asked == []
    other.close()


def test_redirects_in_a_circle_end(server):
    server.answer = lambda asked: Answer(status=302, headers={"Location": "/"})
    assert outcome(server.url) == "redirect"
    assert len(server.asked) <= 4


def test_not_http_at_all(server):
    server.answer = lambda asked: Answer(raw=lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n\r\n"))
    assert outcome(server.url) == "network"


def test_loopback_goes_past_the_proxy(server):
    server.answer = lambda asked: Answer("{}")
    proxy = {"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}
    assert Fetcher(proxy).get(server.url) == b"{}"


def test_https_goes_through_the_proxy():
    asked = []

    def raw(handler):
        asked.append(handler.path)

    proxy = Server(lambda asked: Answer("{}"))
    handler = proxy.socket.RequestHandlerClass
    handler.do_CONNECT = lambda self: (asked.append(self.path), self.send_error(407))
    assert (
        outcome_with({"HTTPS_PROXY": proxy.url.replace("//", "//user:proxy-s3cret@")}, "https://grid.example.org/")
        == "network"
    )
    assert asked == ["grid.example.org:443"]
    bypassed = {"HTTPS_PROXY": proxy.url, "NO_PROXY": "localhost.invalid"}
    assert outcome_with(bypassed, "https://localhost.invalid/") == "network"
    assert len(asked) == 1
    proxy.close()


def outcome_with(environ: dict[str, str], url: str) -> str:
    with pytest.raises(Problem) as caught:
        Fetcher(environ).get(url)
    assert "s3cret" not in str(caught.value)
    return caught.value.outcome


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl cannot make a certificate here")
    return certificate, key


@pytest.fixture
def secure(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket.socket = context.wrap_socket(server.socket.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    server.answer = lambda asked: Answer("{}")
    return server


def test_a_certificate_that_is_not_trusted_is_refused(secure):
    assert outcome(secure.url) == "network"


def test_a_ca_of_ones_own_can_be_trusted(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert Fetcher({}).get(secure.url) == b"{}"


def test_https_is_not_given_up_by_a_redirect(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    secure.answer = lambda asked: Answer(status=302, headers={"Location": secure.url.replace("https:", "http:")})
    with pytest.raises(Problem, match="plain http"):
        Fetcher({}).get(secure.url)


@pytest.mark.parametrize("text", ["120", " 120 ", formatdate(1_800_000_120, usegmt=True)])
def test_retry_after_in_both_forms(text):
    assert retry_after(text, 1_800_000_000.0) == pytest.approx(120.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("99999999999999", 3600.0), (formatdate(4e9), 3600.0), (formatdate(1e9), 0.0), ("0", 0.0)],
)
def test_retry_after_is_bounded(text, seconds):
    assert retry_after(text, 1_800_000_000.0) == seconds


@pytest.mark.parametrize("text", [None, "", "soon", "-5", "1.5", "Mon, 99 Foo 2026", "²"])
def test_retry_after_that_says_nothing(text):
    assert retry_after(text, 1_800_000_000.0) is None


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_reaches_the_problem(server, status):
    server.answer = lambda asked: Answer(status=status, headers={"Retry-After": "77"})
    with pytest.raises(Problem) as caught:
        Fetcher({}).get(server.url)
    assert caught.value.retry_after == 77.0
