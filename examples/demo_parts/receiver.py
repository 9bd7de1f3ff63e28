"""A small OTLP/HTTP receiver on loopback, in place of a collector."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MAX_EXPORT_BYTES = 64 * 1024 * 1024
_KEY = ("model.name", "framework", "model.dtype")


@dataclass
class Totals:
    """The sums over the spans of one model, and the latest span."""

    spans: int = 0
    joules: float = 0.0
    grams: float = 0.0
    liters: float = 0.0
    latest: Any = None
    attributes: dict[str, Any] | None = None

    def add(self, span: Any, attributes: dict[str, Any]) -> None:
        self.spans += 1
        self.joules += attributes.get("ecolyzer.energy.joules", 0.0)
        self.grams += attributes.get("ecolyzer.co2e.grams", 0.0)
        self.liters += attributes.get("ecolyzer.water.liters", 0.0)
        self.latest, self.attributes = span, attributes


class Receiver(ThreadingHTTPServer):
    """A small OTLP/HTTP endpoint: adds up the spans of each model, framework and dtype."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exports)
        self.lock = threading.Lock()
        self.models: dict[tuple[str, str, str], Totals] = {}
        #: Traces of HTTP requests, and traces with requests of models.
        self.served: set[bytes] = set()
        self.inferred: set[bytes] = set()

    def requests(self) -> int:
        """The number of HTTP requests that used one or more models."""
        with self.lock:
            return len(self.served & self.inferred)

    def spans(self) -> int:
        """The number of spans of model requests."""
        with self.lock:
            return sum(totals.spans for totals in self.models.values())

    def add(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for span in (
                span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans
            ):
                if span.kind == span.SPAN_KIND_SERVER:
                    self.served.add(span.trace_id)
                attributes = {pair.key: plain(pair.value) for pair in span.attributes}
                if "ecolyzer.model.name" in attributes:
                    key = tuple(str(attributes.get(f"ecolyzer.{name}", "")) for name in _KEY)
                    self.models.setdefault(key, Totals()).add(span, attributes)
                    self.inferred.add(span.trace_id)


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
            self.server.add(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
