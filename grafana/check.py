"""Runs all queries of the dashboards against a Prometheus, and lists those without data.

    python grafana/check.py --prometheus http://127.0.0.1:9090 [--minutes 5] [DASHBOARD.json ...]

Each variable, annotation and query of each panel is sent as Grafana sends it, with every variable at "All". Queries
with an error, or without a finite sample, are listed, and the exit status is then 1. Queries of other data sources
(traces) are listed as not checked.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class DashboardQuery:
    """One query of a dashboard.

    ``place`` is its panel, variable or annotation; ``kind`` one of ``labels``, ``instant``, ``range`` and ``other``.
    """

    dashboard: str
    place: str
    expr: str
    kind: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query: an error, or the numbers of finite samples and exemplars."""

    query: DashboardQuery
    error: str = ""
    samples: int = 0
    exemplars: int = 0

    @property
    def good(self) -> bool:
        """Whether the answer has data."""
        return not self.error and self.samples > 0


def queries(path: Path) -> Iterator[DashboardQuery]:
    """All queries of a dashboard."""
    board = json.loads(path.read_text(encoding="utf-8"))
    name = path.stem
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield DashboardQuery(name, f"variable {variable['name']}", variable["query"]["query"], "labels")
    for annotation in board.get("annotations", {}).get("list", ()):
        yield DashboardQuery(name, f"annotation {annotation['name']}", annotation["expr"], "range")
    for panel in panels(board):
        for target in panel.get("targets", ()):
            place = f"{panel['title']} {target['refId']}"
            if "expr" not in target:
                yield DashboardQuery(name, place, target.get("query", ""), "other")
            else:
                kind = "instant" if target.get("instant") else "range"
                yield DashboardQuery(name, place, target["expr"], kind, bool(target.get("exemplar")))


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels, also those in collapsed rows."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def substituted(expr: str, board_variables: Iterable[str], seconds: float, step: float) -> str:
    """The expression with Grafana's own variables, and every variable of the dashboard at "All".

    Raises:
        ValueError: it has an unknown variable.
    """
    values = dict.fromkeys(board_variables, ".*") | {
        # The larger of four scrapes and the step plus one: Grafana's rule for $__rate_interval.
        "__rate_interval": f"{max(4 * step, 20):.0f}s",
        "__interval": f"{step:.0f}s",
        "__range": f"{seconds:.0f}s",
    }

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name.isdigit():  # a group of label_replace
            return match[0]
        if name not in values:
            raise ValueError(f"unknown variable ${name}")
        return values[name]

    return re.sub(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))", value, expr)


class Prometheus:
    """A client of the HTTP API."""

    def __init__(self, url: str, minutes: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self.end = time.time()
        self.start = self.end - 60 * minutes

    def get(self, path: str, **parameters: str) -> Any:
        """Send a request; returns the data of the answer.

        Raises:
            RuntimeError: Prometheus rejects the query, or does not answer.
        """
        body = urllib.parse.urlencode(parameters).encode()
        method = "GET" if "label/" in path else "POST"
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}" + (f"?{body.decode()}" if method == "GET" else ""),
            None if method == "GET" else body,
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.loads(error.read() or b"{}").get("error", str(error))) from error
        except OSError as error:
            raise RuntimeError(f"{self.url} does not answer: {error}") from error

    def ask(self, query: DashboardQuery, variables: Iterable[str]) -> Answer:
        """Send one query of a dashboard."""
        span = {"start": f"{self.start:.3f}", "end": f"{self.end:.3f}"}
        step = max(5.0, (self.end - self.start) / 200)
        try:
            expr = substituted(query.expr, variables, self.end - self.start, step)
            if query.kind == "labels":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", expr)
                if match is None:
                    raise ValueError(f"{expr} is not label_values(metric, label)")
                found = self.get(f"label/{match[2]}/values", **{"match[]": match[1]}, **span)
                return Answer(query, samples=len(found))
            if query.kind == "instant":
                result = self.get("query", query=expr, time=span["end"])["result"]
            else:
                result = self.get("query_range", query=expr, step=f"{step:g}", **span)["result"]
            texts = [pair[1] for one in result for pair in one.get("values", [one.get("value")])]
            samples = sum(math.isfinite(float(text)) for text in texts)
            exemplars = 0
            if query.exemplars:
                exemplars = sum(len(one["exemplars"]) for one in self.get("query_exemplars", query=expr, **span))
            return Answer(query, samples=samples, exemplars=exemplars)
        except (RuntimeError, ValueError) as error:
            return Answer(query, error=str(error))


def check(paths: Iterable[Path], server: Prometheus) -> list[Answer]:
    """The answers to all Prometheus queries of these dashboards."""
    answers = []
    for path in paths:
        board = json.loads(path.read_text(encoding="utf-8"))
        variables = [one["name"] for one in board["templating"]["list"]]
        answers += [server.ask(query, variables) for query in queries(path) if query.kind != "other"]
    return answers


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=5.0, help="the time range, up to now (5)")
    parser.add_argument("dashboards", nargs="*", type=Path, help="default: all of grafana/dashboards")
    options = parser.parse_args()
    paths = options.dashboards or sorted((Path(__file__).parent / "dashboards").glob("*.json"))
    answers = check(paths, Prometheus(options.prometheus, options.minutes))
    for answer in answers:
        if not answer.good:
            what = answer.error or "no data"
            print(f"{answer.query.dashboard}: {answer.query.place}: {what}\n    {answer.query.expr}")
    for query in (one for path in paths for one in queries(path) if one.kind == "other"):
        print(f"{query.dashboard}: {query.place}: not checked (traces)")
    good = sum(answer.good for answer in answers)
    print(f"{good} of {len(answers)} queries have data, {sum(one.exemplars for one in answers)} exemplars")
    return 0 if good == len(answers) else 1


if __name__ == "__main__":
    sys.exit(main())
