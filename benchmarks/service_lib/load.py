"""Load on loopback: wrk, or a client of one thread for a given rate or where wrk is not installed."""

from __future__ import annotations

import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass

WRK_SCRIPT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %f %f %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Result:
    """Requests answered within so many seconds, and their latencies in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def saturate(port: int, path: str, seconds: float, connections: int, core: int) -> Result:
    """Send as many requests as possible on ``connections`` kept-alive connections."""
    if not has_wrk():
        return paced(port, path, seconds, connections)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT)
        script.flush()
        # wrk accepts integer seconds only.
        whole_seconds = max(1, round(seconds))
        url = f"http://127.0.0.1:{port}{path}"
        command = [
            "taskset",
            "-c",
            str(core),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{whole_seconds}s",
            "-s",
            script.name,
        ]
        output = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    line = next(line for line in output.splitlines() if line.startswith("RESULT "))
    requests, micros, p50, p99, errors = line.split()[1:]
    return Result(int(requests), int(micros) / 1e6, float(p50) / 1e3, float(p99) / 1e3, int(errors))


class _Connection:
    """One connection: sends a request, reads the complete response, measures the time."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._question = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._answer = b""
        self._since = 0.0
        self.waiting = False

    def since(self) -> float:
        """The time of the last request."""
        return self._since

    def ask(self) -> None:
        self._since, self._answer, self.waiting = time.perf_counter(), b"", True
        self.socket.sendall(self._question)

    def receive(self) -> float | None:
        """Read; returns the seconds of the response once it is complete. Raises ValueError unless it is a 200."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the service closed a connection")
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return None
        self.waiting = False
        if b" 200 " not in head[:16]:
            raise ValueError(head.decode("latin-1", "replace"))
        return time.perf_counter() - self._since


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def paced(port: int, path: str, seconds: float, connections: int, rate: float = 0.0) -> Result:
    """Send ``rate`` requests per second, evenly spaced; 0: as many as possible. Late requests are not dropped."""
    links = [_Connection(port, path) for _ in range(connections)]
    took: list[float] = []
    errors = asked = 0
    with selectors.DefaultSelector() as selector:
        for line in links:
            selector.register(line.socket, selectors.EVENT_READ, line)
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds:
            # The connection idle for longest first: the service closes idle ones after some seconds.
            free = sorted([line for line in links if not line.waiting], key=_Connection.since)
            due = len(free) if not rate else min(len(free), int(now * rate) + 1 - asked)
            for line in free[: max(0, due)]:
                line.ask()
                asked += 1
            pause = 0.1 if not rate or due < 0 or len(free) == max(0, due) else (asked / rate) - now
            for key, _ in selector.select(max(0.0, min(pause, seconds - now))):
                try:
                    spent = key.data.receive()
                except ValueError:
                    errors += 1
                else:
                    if spent is not None:
                        took.append(spent)
        elapsed = time.perf_counter() - began
    for line in links:
        line.socket.close()
    took.sort()
    if not took:
        return Result(0, elapsed, 0.0, 0.0, errors)
    return Result(len(took), elapsed, took[len(took) // 2] * 1e3, took[int(len(took) * 0.99)] * 1e3, errors)


def get(port: int, path: str, timeout: float = 10.0) -> bytes:
    """The body of one page."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := link.recv(1 << 16):
            answer += data
    return answer.partition(b"\r\n\r\n")[2]
