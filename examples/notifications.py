"""Prints the alerts that Alertmanager sends, in place of a real chat or pager.

python examples/notifications.py --port 8080

POST /  a notification for a webhook receiver of Alertmanager; each alert is printed on stdout
GET  /  ok
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Alertmanager has no limit of its own; a group of a thousand alerts is about this large.
MAX_BYTES = 4 * 1024 * 1024
#: Labels in the headline.
IN_HEADLINE = ("alertname", "severity")
#: Annotations that are printed if present, after the description (or the summary, which it includes).
LINKS = ("dashboard_url", "runbook_url")
#: print() writes a text and its line end separately, so two concurrent notifications could share a line.
_terminal = threading.Lock()


def lines_of(message: dict[str, Any]) -> Iterator[str]:
    """One notification as lines of text. Raises if it has another form than Alertmanager's."""
    for alert in message["alerts"]:
        labels, annotations = alert["labels"], alert.get("annotations", {})
        resolved = alert["status"] == "resolved"
        state = "RESOLVED" if resolved else "FIRING"
        severity = labels.get("severity", "unknown")
        when = re.sub(r"\.\d+", "", alert["endsAt" if resolved else "startsAt"])
        yield _plain(f"{state} {severity} {labels['alertname']} {when}")
        yield _plain("  " + " ".join(f"{key}={labels[key]}" for key in sorted(labels) if key not in IN_HEADLINE))
        message_text = annotations.get("description") or annotations.get("summary")
        yield from (_plain(f"  {text}") for text in (message_text, *map(annotations.get, LINKS)) if text)
    if cut := message.get("truncatedAlerts", 0):
        yield f"and {cut} more"


def _plain(text: str) -> str:
    """On one line, and without control characters for the terminal: labels are untrusted input."""
    return "".join(one if one.isprintable() else " " for one in text).rstrip()


class Receiver(BaseHTTPRequestHandler):
    """Prints posted notifications."""

    timeout = 10

    def do_GET(self) -> None:
        self._answer(200, "ok")

    def do_POST(self) -> None:
        try:
            size = int(self.headers["Content-Length"])
            if not 0 < size <= MAX_BYTES:
                raise ValueError(f"{size} bytes")
            text = "\n".join(lines_of(json.loads(self.rfile.read(size))))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Alertmanager logs a 4xx and does not retry it.
            self._answer(400, f"no notification of Alertmanager: {error!r}")
            return
        with _terminal:
            print(text, flush=True)
        self._answer(200, "ok")

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log health checks: only alerts are printed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    # As PID 1 of a container, SIGTERM would be ignored otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer((options.host, options.port), Receiver) as server:
        print(f"waiting for alerts on http://{options.host}:{server.server_address[1]}/", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
