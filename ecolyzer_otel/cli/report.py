"""``ecolyzer report``: a period's energy, emissions and water as HTML, Markdown, CSV and JSON."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from ecolyzer_otel.common.errors import ConfigError

if TYPE_CHECKING:
    from ecolyzer_otel.report.observations import Observations

__all__ = ["add_parser", "run"]

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_NEEDED: Final = ("jinja2", "matplotlib")
#: Label matchers of PromQL, without the braces.
_SELECTOR: Final = re.compile(r'\s*(\w+\s*(=~|!~|!=|=)\s*"([^"\\\n]|\\.)*"\s*(,\s*|$))+')


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``report`` to the commands of ``ecolyzer``."""
    parser = commands.add_parser(
        "report",
        help="a period's energy, CO2e and water as a document",
        description="Writes report.html, report.md with its plots, figures.csv and figures.json.",
        epilog="Secrets: ECOLYZER_PROMETHEUS_TOKEN is sent to Prometheus as bearer token. Details: docs/report.md.",
        allow_abbrev=False,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prometheus", metavar="URL", help="read from this Prometheus (http://localhost:9090)")
    source.add_argument("--journal", metavar="FOLDER", help="read from the meters' journal (ECOLYZER_JOURNAL)")
    period = parser.add_mutually_exclusive_group()
    period.add_argument("--since", metavar="AGE", help="the last 12h, 30d (default) or 4w, up to now")
    period.add_argument("--from", dest="begin", metavar="DATE", help="a date, or a date and time (of UTC)")
    parser.add_argument("--to", dest="end", metavar="DATE", help="end of the period, not part of it; default now")
    parser.add_argument(
        "--out", default="ecolyzer-report", metavar="FOLDER", help="output folder (default %(default)s)"
    )
    parser.add_argument("--title", metavar="TEXT", help="title of the report")
    parser.add_argument("--organisation", default="", metavar="TEXT", help="organisation that the report is about")
    parser.add_argument("--service", metavar="NAME", help="figures of this service alone")
    parser.add_argument("--selector", default="", metavar="MATCHERS", help='label matchers of PromQL: site="paris"')


def run(options: argparse.Namespace) -> int:
    """Write the report. Returns the exit status: 0, or 1 with one line on stderr."""
    try:
        written = _report(options, os.environ, time.time())
    except ConfigError as error:
        print(f"ecolyzer: {error}", file=sys.stderr)
        return 1
    print(f"ecolyzer: {written}")
    return 0


def _report(options: argparse.Namespace, environ: Mapping[str, str], now: float) -> str:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError("report", f"{' and '.join(missing)} not installed", "pip install 'ecolyzer-otel[report]'")
    # Late: other commands do not need these, and a library may be missing.
    from ecolyzer_otel.report.figures import tables
    from ecolyzer_otel.report.projection import project
    from ecolyzer_otel.report.provenance import provenance
    from ecolyzer_otel.report.quality import assess
    from ecolyzer_otel.report.render import render, write
    from ecolyzer_otel.report.sections import Findings, Front

    observed = _observe(options, environ, *period(options.since, options.begin, options.end, now))
    figures, factors = tables(observed), provenance(observed)
    found = Findings(observed, figures, factors, assess(observed, figures, factors), project(observed, figures))
    title = options.title or "Inference sustainability report"
    paths = write(render(found, Front(title, options.organisation, now)), options.out)
    return f"{paths[0]} and {len(paths) - 1} files beside it"


def _observe(options: argparse.Namespace, environ: Mapping[str, str], since: float, until: float) -> Observations:
    if options.journal is not None:
        from ecolyzer_otel.report.from_journal import from_journal

        if options.selector:
            raise ConfigError("--selector", "a journal has no labels of scrapes", "use --service, or --prometheus")
        return from_journal(options.journal, since, until, options.service)
    from ecolyzer_otel.report.from_prometheus import from_prometheus
    from ecolyzer_otel.report.prometheus import TOKEN_VARIABLE, Prometheus

    selector = options.selector.strip().rstrip(",")
    if selector and not _SELECTOR.fullmatch(selector):
        raise ConfigError("--selector", "not label matchers", 'give some such as \'site="paris",job="ecolyzer"\'')
    server = Prometheus(options.prometheus, environ.get(TOKEN_VARIABLE))
    return from_prometheus(server, since, until, options.service, selector)


def period(since: str | None, begin: str | None, end: str | None, now: float) -> tuple[float, float]:
    """The period as Unix seconds.

    Raises:
        ConfigError: a text that is no age or date, or a period that is empty or has not begun.
    """
    if begin is None:
        if end is not None:
            raise ConfigError("--to", "has no --from", "give both, or --since alone")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", (since or "30d").strip())
        if found is None or not 0.0 < float(found[1]) * _SECONDS[found[2]] < now:
            raise ConfigError("--since", f"{since!r} cannot be used", "give an age such as 12h, 30d or 4w")
        return now - float(found[1]) * _SECONDS[found[2]], now
    first = _date("--from", begin)
    last = min(now, _date("--to", end)) if end is not None else now
    if first >= last:
        raise ConfigError("--from", f"{begin} is not before {end or 'now'}", "give an earlier one")
    return first, last


def _date(key: str, text: str) -> float:
    try:
        # fromisoformat of Python 3.10 does not accept the Z.
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
        found = found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
        return max(0.0, found.timestamp())
    except (ValueError, OverflowError):
        raise ConfigError(key, f"{text!r} is not a date", "give one such as 2026-10-01") from None
