"""A tiny OTLP/HTTP receiver on loopback: what an exporter saw."""

from __future__ import annotations

import gzip
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MAX_EXPORT_BYTES = 64 * 1024 * 1024


class Receiver(ThreadingHTTPServer):
    """A tiny OTLP/HTTP endpoint: adds up the joules of all spans, keeps the latest span of each model."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exports)
        self.lock = threading.Lock()
        self.spans: dict[str, Any] = {}
        self.count: Counter[str] = Counter()
        self.joules: defaultdict[str, float] = defaultdict(float)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for span in (
                span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans
            ):
                attributes = {pair.key: plain(pair.value) for pair in span.attributes}
                model = attributes.get("ecolyzer.model.name")
                if model is not None:
                    self.count[model] += 1
                    self.joules[model] += attributes.get("ecolyzer.energy.joules", 0.0)
                    self.spans[model] = (span, attributes)


def plain(value: Any) -> Any:
    """The Python value of an OTLP ``AnyValue``."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


class _Exports(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(length) if length <= MAX_EXPORT_BYTES else b""
        if self.path == "/v1/traces" and body:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.server.take(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""
