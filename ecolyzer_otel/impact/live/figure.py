"""One figure of a grid's carbon intensity, the reason why there is none, and the checks of an answer."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from ecolyzer_otel.common.errors import EcolyzerError

__all__ = ["HIGHEST_GRAMS", "Figure", "Problem", "check_age", "clock_time", "grams", "instant", "label"]

#: gCO2e per kWh that no grid exceeds: the dirtiest country of the packaged table has 1306 (TM, 2024).
HIGHEST_GRAMS: Final = 2000.0
#: How far ahead of this machine's clock a source's clock may run, in seconds.
_AHEAD_SECONDS: Final = 300.0
_LONGEST_LABEL: Final = 80
#: Python 3.10 reads fractions of three or six digits only.
_FRACTION: Final = re.compile(r"[.,]\d+")


class Problem(EcolyzerError):
    """The reason why a source returned no figure.

    ``outcome`` is the kind, for a metric label; ``text`` states the problem and ``remedy`` what to do; neither
    contains text of a server or a secret. ``retry_after`` is the number of seconds after which the source accepts
    another request; ``permanent`` means that another request cannot succeed in this process.
    """

    def __init__(
        self,
        outcome: str,
        text: str,
        remedy: str = "",
        *,
        retry_after: float | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(f"{text}; {remedy}" if remedy else text)
        self.outcome = outcome
        self.text = text
        self.remedy = remedy
        self.retry_after = retry_after
        self.permanent = permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Carbon intensity of electricity at one place from one time on.

    ``grams_per_kwh`` is gCO2e (or gCO2, as ``basis`` and ``source_detail`` state) per kWh; ``zone`` the source's
    name of the place; ``basis`` what is counted (``lifecycle_consumption``, ``direct_generation``, ``marginal``
    ...): figures of different bases do not compare. ``source`` is short enough for a metric label,
    ``source_detail`` names API, unit and terms. ``from_s`` and ``until_s`` are Unix times; without ``until_s`` it
    is valid until a newer one begins. ``estimated``: a forecast, an estimate or derived, not measured.
    ``uncertainty`` is one relative standard uncertainty where the source reports it.
    """

    grams_per_kwh: float
    zone: str
    basis: str
    source: str
    source_detail: str
    from_s: float
    until_s: float | None = None
    estimated: bool = False
    uncertainty: float | None = None

    @property
    def age_from_s(self) -> float:
        """The Unix time that its age counts from: its end where it has one, else its beginning."""
        return self.from_s if self.until_s is None else max(self.from_s, self.until_s)


def grams(value: Any, what: str = "the carbon intensity") -> float:
    """``value`` as gCO2e per kWh. Raises :class:`Problem` unless it is a number from 0 to 2000."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= HIGHEST_GRAMS:
        raise Problem("bad_value", f"{what} is not a number from 0 to {HIGHEST_GRAMS:g} g/kWh")
    return float(value)


def instant(value: Any, what: str = "the time") -> float:
    """Unix seconds of an ISO 8601 time with offset, or of a number. Raises :class:`Problem` for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0.0 <= value < 1e11:  # larger numbers are milliseconds
            raise Problem("bad_value", f"{what} is not a Unix time in seconds")
        return float(value)
    if not isinstance(value, str):
        raise Problem("bad_value", f"{what} is missing")
    text = _FRACTION.sub("", value.strip())
    if text[-1:] in ("Z", "z"):
        text = text[:-1] + "+00:00"
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise Problem("bad_value", f"{what} has no offset from UTC", "write it as 2026-01-31T12:00:00Z")
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise Problem("bad_value", f"{what} is not an ISO 8601 time", "write it as 2026-01-31T12:00:00Z") from None


def label(value: Any, what: str) -> str:
    """``value`` as a text for a metric label. Raises :class:`Problem` where it is not usable."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > _LONGEST_LABEL or not text.isprintable():
        raise Problem("bad_value", f"{what} is not a text of 1 to {_LONGEST_LABEL} printable characters")
    return text


def check_age(figure: Figure, now_s: float, max_age: float) -> None:
    """Refuse a figure of the future, or one that is too old. Raises :class:`Problem`."""
    if figure.until_s is not None and not figure.from_s < figure.until_s < math.inf:
        raise Problem("bad_value", "the figure ends before it begins")
    if figure.from_s > now_s + _AHEAD_SECONDS:
        raise Problem(
            "bad_value",
            f"the figure is of {clock_time(figure.from_s)}, which is in the future",
            "check the clock of this machine",
        )
    if now_s - figure.age_from_s > max_age:
        raise Problem("stale", f"the newest figure is of {clock_time(figure.age_from_s)}, which is too old")


def clock_time(unix_s: float) -> str:
    """``2026-01-31 12:00 UTC``, for messages."""
    try:
        return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
