"""Bucket bounds of histograms."""

from __future__ import annotations

__all__ = ["decades"]


def decades(first: int, last: int, steps: tuple[float, ...] = (1.0, 2.5, 5.0)) -> tuple[float, ...]:
    """Bucket bounds ``step * 10**k`` for k in [first, last], written without float noise."""
    return tuple(float(f"{step:g}e{k}") for k in range(first, last + 1) for step in steps)
