"""Real HTTP servers on loopback that answer as the providers document, and as they should not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ecolyzer_otel.impact.live import LiveGrid, open_live
from ecolyzer_otel.impact.live.refresh import Pace

KEY = "--grid (ECOLYZER_GRID)"
AREA = "10YFR-RTE------C"


@dataclass
class Asked:
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]


@dataclass
class Answer:
    body: bytes | str | dict | list = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    #: Writes raw bytes in place of all else.
    raw: Callable[[BaseHTTPRequestHandler], None] | None = None


class Server:
    """``answer`` says what to answer to what is asked; ``asked`` is what was."""

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.ending = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                asked = Asked(
                    parts.path,
                    {k: v[0] for k, v in parse_qs(parts.query).items()},
                    {name.lower(): value for name, value in self.headers.items()},
                )
                server.asked.append(asked)
                answer = server.answer(asked)
                try:
                    if answer.raw is not None:
                        answer.raw(self)
                        return
                    body = answer.body
                    if isinstance(body, (dict, list)):
                        body = json.dumps(body)
                    if isinstance(body, str):
                        body = body.encode()
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass  # the client has had enough, as it should

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.socket = self._server
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Case:
    """A provider, how it is asked for, and how it answers with ``grams`` for a time."""

    name: str
    source: str
    label: str
    zone: str
    good: Callable[[float, float], Any]
    wrong_zone: Callable[[float, float], Any]
    environ: dict[str, str] = field(default_factory=dict)
    region: str | None = None
    marginal: bool = False
    #: What must not show anywhere.
    secrets: tuple[str, ...] = ()
    not_that_format: str = "not_json"

    def respond(self, grams: float, now: float | None = None, what: str = "good") -> Callable[[Asked], Answer]:
        def answer(asked: Asked) -> Answer:
            if asked.path == "/login":
                return Answer({"token": "session-token-of-watttime"})
            return Answer(getattr(self, what)(grams, time.time() if now is None else now))

        return answer

    def open(self, url: str, **options: Any) -> LiveGrid:
        pace = Pace(refresh=options.pop("refresh", 0.02), backoff_first=0.02, backoff_most=0.04)
        own = self.source == "endpoint"
        given: dict[str, Any] = {
            "key": KEY,
            "zone": self.zone,
            "region": self.region,
            "url": None if own else url,
            "refresh": pace.refresh,
            "max_age": 6 * 3600.0,
            "cache": "none",
            "marginal": self.marginal,
            "environ": self.environ,
            "pace": pace,
        }
        grid = open_live(f"{url}/now?code=1" if own else self.source, **{**given, **options})
        grid._provider.floor_s = 0.0  # these tests would take minutes
        return grid


def electricitymaps(grams: float, now: float, zone: str = "DE") -> dict[str, Any]:
    return {
        "zone": zone,
        "carbonIntensity": grams,
        "datetime": iso(now // 3600 * 3600).replace("Z", ".000Z"),
        "updatedAt": iso(now),
        "createdAt": iso(now - 86400),
        "emissionFactorType": "lifecycle",
        "isEstimated": True,
        "estimationMethod": "TIME_SLICER_AVERAGE",
    }


def neso(grams: float, now: float) -> dict[str, Any]:
    start = now // 1800 * 1800
    times = {"from": iso(start)[:-4] + "Z", "to": iso(start + 1800)[:-4] + "Z"}
    return {"data": [{**times, "intensity": {"forecast": grams + 7, "actual": grams, "index": "moderate"}}]}


def neso_regional(grams: float, now: float, postcode: str = "RG10") -> dict[str, Any]:
    row = neso(0.0, now)["data"][0] | {"intensity": {"forecast": grams, "index": "low"}}
    return {"data": [{"regionid": 12, "shortname": "South England", "postcode": postcode, "data": [row]}]}


def rte(grams: float, now: float, perimetre: str = "France") -> dict[str, Any]:
    newest = now // 900 * 900 - 1800
    rows = [
        {"perimetre": perimetre, "date_heure": iso(newest - 900 * n).replace("Z", "+00:00"), "taux_co2": grams + n}
        for n in range(3)
    ]
    return {"total_count": 120, "results": rows}


def watttime(
    grams: float, now: float, region: str = "CAISO_NORTH", units: str = "lbs_co2_per_mwh"
) -> dict[str, Any]:
    newest = now // 300 * 300 - 300
    points = [
        {"point_time": iso(newest - 300 * n).replace("Z", "+00:00"), "value": grams / 0.45359237 + n * 10}
        for n in (2, 1, 0)
    ]
    meta = {"data_point_period_seconds": 300, "region": region, "signal_type": "co2_moer", "units": units}
    return {"data": points, "meta": {**meta, "model": {"date": "2026-03-01"}}}


def endpoint(grams: float, now: float, zone: str = "FR") -> dict[str, Any]:
    return {"grams_per_kwh": grams, "zone": zone, "time": iso(now - 60), "basis": "lifecycle_generation"}


def series(code: str, start: float, quantities: list[str | float | None], step: int = 15, **other: Any) -> str:
    side = other.get("side", "in")
    points = "".join(
        f"<Point><position>{n}</position><quantity>{value}</quantity></Point>"
        for n, value in enumerate(quantities, 1)
        if value is not None
    )
    end = start + step * 60 * len(quantities)
    return (
        f"<TimeSeries><mRID>1</mRID><businessType>A01</businessType>"
        f'<{side}BiddingZone_Domain.mRID codingScheme="A01">{other.get("area", AREA)}'
        f"</{side}BiddingZone_Domain.mRID><curveType>{other.get('curve', 'A01')}</curveType>"
        f"<MktPSRType><psrType>{code}</psrType></MktPSRType><Period><timeInterval>"
        f"<start>{iso(start)[:-4]}Z</start><end>{iso(end)[:-4]}Z</end></timeInterval>"
        f"<resolution>PT{step}M</resolution>{points}</Period></TimeSeries>"
    )


def document(*all_series: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><GL_MarketDocument '
        'xmlns="urn:iec62325.351:tc57wg16:451-6:generationloaddocument:3:0"><mRID>1</mRID><type>A75</type>'
        f"<process.processType>A16</process.processType>{''.join(all_series)}</GL_MarketDocument>"
    )


def entsoe(grams: float, now: float, area: str = AREA) -> str:
    """Nuclear (12) and coal (820) in the shares that give ``grams``."""
    coal = (grams - 12.0) / (820.0 - 12.0)
    start = now // 900 * 900 - 3600
    return document(
        series("B14", start, [1000 * (1 - coal)] * 3, area=area), series("B05", start, [1000 * coal] * 3, area=area)
    )


CASES = [
    Case(
        "electricitymaps",
        "electricitymaps",
        "Electricity Maps",
        "DE",
        electricitymaps,
        lambda grams, now: electricitymaps(grams, now, "FR"),
        {"ECOLYZER_ELECTRICITYMAPS_TOKEN": "em-s3cret/+token=="},
        secrets=("em-s3cret/+token==", "em-s3cret%2F%2Btoken%3D%3D"),
    ),
    Case("neso", "neso", "NESO", "GB", neso, lambda grams, now: {"data": []}),
    Case(
        "neso-regional",
        "neso",
        "NESO",
        "GB",
        neso_regional,
        lambda grams, now: neso_regional(grams, now, "SW1"),
        region="rg10 9xx",
    ),
    Case("rte", "rte", "RTE eCO2mix", "FR", rte, lambda grams, now: rte(grams, now, "Bretagne")),
    Case(
        "entsoe",
        "entsoe",
        "ENTSO-E mix",
        "FR",
        entsoe,
        lambda grams, now: entsoe(grams, now, "10YBE----------2"),
        {"ECOLYZER_ENTSOE_TOKEN": "entsoe-s3cret/+token"},
        secrets=("entsoe-s3cret/+token", "entsoe-s3cret%2F%2Btoken"),
        not_that_format="not_xml",
    ),
    Case(
        "watttime",
        "watttime",
        "WattTime",
        "US-CA",
        watttime,
        lambda grams, now: watttime(grams, now, "PJM_DC"),
        {"ECOLYZER_WATTTIME_USERNAME": "watt-user", "ECOLYZER_WATTTIME_PASSWORD": "watt-s3cret"},
        region="CAISO_NORTH",
        marginal=True,
        secrets=("watt-s3cret", "d2F0dC11c2VyOndhdHQtczNjcmV0", "session-token-of-watttime"),
    ),
    Case(
        "endpoint",
        "endpoint",
        "127.0.0.1",
        "FR",
        endpoint,
        lambda grams, now: endpoint(grams, now, "BE"),
        {"ECOLYZER_GRID_TOKEN": "own-s3cret"},
        secrets=("own-s3cret",),
    ),
]
