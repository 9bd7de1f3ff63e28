"""The equal division of time, for the ledger and for workers, which do not load the ledger."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["equal_seconds"]


def equal_seconds(parts: Sequence[tuple[int, int] | None]) -> list[float]:
    """Returns the share of each part in seconds: every instant is divided equally among the parts that contain it.

    With K(t) the integral of 1/n over time, n the number of parts that contain t, part i gets
    K(end_i) - K(start_i).

    Args:
        parts: ``(start_ns, end_ns)`` of each part, or None for an empty one.
    """
    if len(parts) == 1 and parts[0]:
        return [(parts[0][1] - parts[0][0]) / 1e9]
    starts = sorted([part[0] for part in parts if part])
    ends = sorted([part[1] for part in parts if part])
    reached: dict[int, float] = {}
    flying, clock, at = 0, 0.0, starts[0] if starts else 0
    coming, number = 0, len(starts)
    for end in ends:
        while coming < number and starts[coming] <= end:
            when = starts[coming]
            coming += 1
            if when > at:
                if flying:
                    clock += (when - at) / flying
                at = when
                reached[when] = clock
            elif when not in reached:
                reached[when] = clock
            flying += 1
        if end > at:
            clock += (end - at) / flying
            at = end
        reached[end] = clock
        flying -= 1
    return [(reached[part[1]] - reached[part[0]]) / 1e9 if part else 0.0 for part in parts]
