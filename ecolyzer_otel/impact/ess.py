"""ESS, the environmental sustainability score of ML-EcoLyzer: effective parameters in millions per gram of CO2e.

Source: arXiv 2511.06694, ESS = (N x QF / 1e6) / gCO2e, with N parameters and QF the quantization factor of their
dtype. Why QF is 1 by default, and the limits of ESS: ``docs/methodology.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.window import TrailingSums

__all__ = ["EssWindow", "effective_parameters", "ess", "quantization_factor"]

_FULL_BITS: Final = 32
_ALIASES: Final = {"half": "float16", "float": "float32", "single": "float32", "double": "float64"}
_LONG: Final = {"bf": "bfloat", "fp": "float", "f": "float", "i": "int", "u": "uint"}
#: float16, fp16, f16, bfloat16, bf16, int8, uint8, u8, qint8, nf4, mxfp4, float8_e4m3fn ... but not tf32, which is
#: a compute mode of parameters that stay 32 bits wide.
_SIZED: Final = re.compile(r"(?:(?:mx|nv)?fp|b?float|b?f|q?u?int|[iu]|nf)(\d{1,2})(?:_\w+)?")
#: How frameworks wrap the name: torch.float16, tensor(float16), <dtype: 'float16'>.
_WRAPPING: Final = re.compile(r"^(?:torch\.|tf\.|np\.|numpy\.|tensor\(|<dtype: ')|(?:\)|'>)$")


def quantization_factor(dtype: str | None, preset: str) -> float:
    """QF of a dtype (a ratio without unit).

    Args:
        dtype: the parameters' dtype in any usual spelling (``float16``, ``fp16``, ``torch.float16``), or None.
        preset: ``paper-tool`` (1 for every dtype, as the tool released with the paper computes), ``bits``
            (bits / 32; 1 for an unknown dtype), or a custom table, ``int8=0.3,float16=0.6,*=1``, where ``*`` is the
            factor of every other dtype, by default 1.

    Raises:
        ConfigError: ``preset`` is none of these.
    """
    if preset == "paper-tool":
        return 1.0
    if preset == "bits":
        return (_bits(dtype) or _FULL_BITS) / _FULL_BITS
    table = _custom_table(preset)
    return table.get(_usual(dtype), table.get("*", 1.0))


@lru_cache(maxsize=8)
def _custom_table(text: str) -> Mapping[str, float]:
    """The factors of ``DTYPE=FACTOR,...`` by the usual name of each dtype."""
    table: dict[str, float] = {}
    for pair in text.split(","):
        dtype, _, factor = pair.partition("=")
        try:
            value = float(factor)
        except ValueError:
            value = math.nan
        if not dtype.strip() or not 0.0 < value <= 64.0:
            remedy = "give paper-tool, bits, or a table such as int8=0.25,float16=0.5,*=1"
            raise ConfigError("quantization", f"{text!r} is neither a preset nor a table of factors", remedy)
        table[_usual(dtype)] = value
    return table


def _usual(dtype: str | None) -> str:
    """One name for all spellings: fp16, f16, half and torch.float16 are float16."""
    name = _WRAPPING.sub("", (dtype or "").strip().lower())
    name = _ALIASES.get(name, name)
    short = re.fullmatch(r"(bf|fp|f|i|u)(\d{1,2})(\w*)", name)
    return _LONG[short[1]] + short[2] + short[3] if short else name


def _bits(dtype: str | None) -> int | None:
    """Bits of one parameter, or None where the name does not contain them."""
    sized = _SIZED.fullmatch(_usual(dtype))
    return int(sized[1]) if sized else None


def effective_parameters(parameters: int, dtype: str | None, preset: str) -> float:
    """N x QF: the parameters of a model weighted by the quantization factor of their dtype.

    Raises:
        ConfigError: as :func:`quantization_factor`.
    """
    return parameters * quantization_factor(dtype, preset)


def ess(effective_parameters: float | None, operational_grams: float) -> float | None:
    """Millions of effective parameters per gram: (N x QF / 1e6) / g (arXiv 2511.06694).

    Returns:
        The score, or None where it is undefined: unknown parameters, or 0 g. Never 0 and never infinite.
    """
    if not effective_parameters or not operational_grams > 0.0:
        return None
    score = effective_parameters / 1e6 / operational_grams
    return score if 0.0 < score < math.inf else None


class EssWindow:
    """ESS over the trailing 300 s: the sum of P over the requests (or their items) by the sum of their grams.

    P is N x QF in millions. Where every request has the same P, as in a metric with model and dtype labels, that
    is P x count / sum of g: the harmonic mean of the requests' own scores. In the arithmetic mean, one cheap
    request would outweigh all others.
    """

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        #: P x requests, P x items, grams.
        self._sums = TrailingSums(3)

    def add(
        self, t_seconds: float, effective_parameters: float | None, requests: int, items: int, grams: float
    ) -> None:
        """Count settled requests, in O(1) and in any order of time.

        Ignored: requests with unknown parameters (their grams would lower the score of the others), amounts that
        are negative or not finite (one NaN would invalidate five minutes), and times already overwritten.

        Args:
            t_seconds: their end, on the same clock as :meth:`value`.
            effective_parameters: N x QF of one request.
            requests: their number.
            items: batch elements of all of them.
            grams: operational gCO2e of all of them.
        """
        if not effective_parameters or not 0.0 < effective_parameters < math.inf or not 0.0 <= grams < math.inf:
            return
        millions = effective_parameters / 1e6
        self._sums.add(t_seconds, millions * requests, millions * items, grams)

    def value(self, now: float, per: Literal["request", "item"]) -> float | None:
        """ESS per request or per item at ``now``, or None where undefined: nothing in the window, or 0 g."""
        by_request, by_item, grams = self._sums.totals(now)
        # The sums are in millions; ess() takes parameters and defines where the score is undefined.
        return ess((by_request if per == "request" else by_item) * 1e6, grams)
