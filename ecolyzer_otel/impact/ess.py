"""ESS, the environmental sustainability score of ML-EcoLyzer: effective parameters in millions per gram of CO2e.

Source: arXiv 2511.06694, ESS = (N x QF / 1e6) / gCO2e, with N parameters and QF the quantization factor of their
dtype. Why QF is 1 by default, and what ESS can and cannot say: ``docs/methodology.md``.
"""

from __future__ import annotations

import math
import re
from typing import Final, Literal

from ecolyzer_otel.errors import ConfigError

__all__ = ["EssWindow", "effective_parameters", "ess", "quantization_factor"]

_FULL_BITS: Final = 32
_BITS_OF_WORD: Final = {"half": 16, "float": 32, "single": 32, "double": 64}
#: float16, fp16, f16, bfloat16, bf16, int8, uint8, u8, qint8, nf4, mxfp4, float8_e4m3fn ... but not tf32, which is
#: a compute mode of parameters that stay 32 bits wide.
_SIZED: Final = re.compile(r"(?:(?:mx|nv)?fp|b?float|b?f|q?u?int|[iu]|nf)(\d{1,2})(?:_\w+)?")
#: How frameworks wrap the name: torch.float16, tensor(float16), <dtype: 'float16'>.
_WRAPPING: Final = re.compile(r"^(?:torch\.|tf\.|np\.|numpy\.|tensor\(|<dtype: ')|(?:\)|'>)$")


def quantization_factor(dtype: str | None, preset: str) -> float:
    """QF of a dtype (a ratio without unit).

    Args:
        dtype: the parameters' dtype in any usual spelling (``float16``, ``fp16``, ``torch.float16``), or None.
        preset: ``paper-tool`` (1 for every dtype, as the tool released with the paper computes) or ``bits``
            (bits / 32; 1 for a dtype that is unknown).

    Raises:
        ConfigError: ``preset`` is neither.
    """
    if preset == "paper-tool":
        return 1.0
    if preset == "bits":
        return (_bits(dtype) or _FULL_BITS) / _FULL_BITS
    raise ConfigError("quantization", f"{preset!r} is not a preset", "give one of paper-tool, bits")


def _bits(dtype: str | None) -> int | None:
    """Bits of one parameter, or None where the name does not say."""
    name = _WRAPPING.sub("", (dtype or "").strip().lower())
    sized = _SIZED.fullmatch(name)
    return int(sized[1]) if sized else _BITS_OF_WORD.get(name)


def effective_parameters(parameters: int, dtype: str | None, preset: str) -> float:
    """N x QF: the parameters of a model weighted by the quantization factor of their dtype.

    Raises:
        ConfigError: as :func:`quantization_factor`.
    """
    return parameters * quantization_factor(dtype, preset)


def ess(effective_parameters: float | None, operational_grams: float) -> float | None:
    """Millions of effective parameters per gram: (N x QF / 1e6) / g (arXiv 2511.06694).

    Returns:
        The score, or None where it is undefined: no parameters known, or 0 g. Never 0 and never infinite.
    """
    if not effective_parameters or not operational_grams > 0.0:
        return None
    score = effective_parameters / 1e6 / operational_grams
    return score if 0.0 < score < math.inf else None


class EssWindow:
    """ESS over the trailing 300 s: the sum of P over the requests (or their items) by the sum of their grams.

    P is N x QF in millions. Where every request has the same P, as in a metric with model and dtype labels, that
    is P x count / sum of g: the harmonic mean of the requests' own scores, in which a cheap request does not
    outweigh all others as it would in the arithmetic mean.

    Memory is bounded: sums of 5 s each, in a ring of 60. So the window covers the last 295 to 300 s.
    """

    __slots__ = ("_epochs", "_sums")

    _BUCKET_SECONDS: Final = 5.0
    _BUCKETS: Final = 60

    def __init__(self) -> None:
        #: Which 5 s each slot of the ring holds, and its sums: P x requests, P x items, grams.
        self._epochs: list[int | None] = [None] * self._BUCKETS
        self._sums: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)] * self._BUCKETS

    def add(
        self, t_seconds: float, effective_parameters: float | None, requests: int, items: int, grams: float
    ) -> None:
        """Count settled requests, in O(1) and in any order of time.

        Ignored: requests whose parameters are not known (their grams would dilute the others' score), amounts that
        are negative or not finite (one NaN would spoil five minutes), and times already overwritten by later ones.

        Args:
            t_seconds: when they ended, on any clock that :meth:`value` shares.
            effective_parameters: N x QF of one request.
            requests: how many.
            items: batch elements of all of them together.
            grams: operational gCO2e of all of them together.
        """
        if not effective_parameters or not 0.0 < effective_parameters < math.inf or not 0.0 <= grams < math.inf:
            return
        epoch = int(t_seconds // self._BUCKET_SECONDS)
        slot = epoch % self._BUCKETS
        held = self._epochs[slot]
        if held is not None and held > epoch:
            return
        if held != epoch:
            self._epochs[slot] = epoch
            self._sums[slot] = (0.0, 0.0, 0.0)
        millions = effective_parameters / 1e6
        by_request, by_item, total = self._sums[slot]
        self._sums[slot] = (by_request + millions * requests, by_item + millions * items, total + grams)

    def value(self, now: float, per: Literal["request", "item"]) -> float | None:
        """ESS per request or per item at ``now``, or None where undefined: nothing in the window, or 0 g."""
        last = int(now // self._BUCKET_SECONDS)
        inside = [
            sums
            for epoch, sums in zip(self._epochs, self._sums, strict=True)
            if epoch is not None and last - self._BUCKETS < epoch <= last
        ]
        amount = math.fsum(sums[0 if per == "request" else 1] for sums in inside)
        # The sums are in millions already; ess() takes parameters and keeps the one rule of what is undefined.
        return ess(amount * 1e6, math.fsum(sums[2] for sums in inside))
