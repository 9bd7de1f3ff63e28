"""The factors of one place over time, so that each joule is charged at those of its own time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ecolyzer_otel.impact.place import Place

if TYPE_CHECKING:
    from ecolyzer_otel.impact.live.figure import Figure

__all__ = ["LiveSource", "Timeline"]

#: Periods that are remembered: what is settled now began in one of the last few.
_KEPT: Final = 300


class LiveSource(Protocol):
    """What gives live figures: :class:`ecolyzer_otel.impact.live.LiveGrid`."""

    @property
    def source(self) -> str:
        """Its name, short enough for a label."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How often what came of asking."""

    @property
    def problem(self) -> str | None:
        """The present fault in one line, None while all is well."""

    def at(self, unix_s: float) -> Figure | None:
        """The figure that stands at that time, None where none does. Never blocks, never raises."""

    def start(self) -> None:
        """Begin to ask for figures."""

    def close(self, timeout: float = 1.0) -> None:
        """End that."""


class Timeline:
    """The place of each period, by the numbers that the ledger gives them.

    Args:
        place: with the table's figures, which hold whenever no live one stands.
        average: live figures of the grid's carbon intensity, or None.
        marginal: of its marginal intensity, or None.
    """

    def __init__(self, place: Place, average: LiveSource | None = None, marginal: LiveSource | None = None) -> None:
        #: The factors that hold now.
        self.place = place
        self.live: Final = {"grid": average, "marginal": marginal}
        self._table = place
        self._figures: tuple[Figure | None, Figure | None] = None, None
        self._polled = 0.0
        self._places: dict[int, Place] = {0: place}

    @property
    def changes(self) -> bool:
        """Whether factors can change at all."""
        return any(source is not None for source in self.live.values())

    def start(self) -> None:
        """Begin to ask the live sources."""
        for source in self.live.values():
            if source is not None:
                source.start()

    def close(self) -> None:
        """End that."""
        for source in self.live.values():
            if source is not None:
                source.close()

    def begin(self, now_s: float) -> None:
        """Take what is known at the start (Unix time ``now_s``), before anything is charged."""
        if self.poll(now_s) is not None:
            self._places = {0: self.place}

    def poll(self, now_s: float) -> float | None:
        """Look what stands at Unix time ``now_s``.

        Returns:
            None if nothing has changed; else since when the new :attr:`place` holds, as Unix time: the beginning of
            a figure that was known before, else now. The caller begins a period and tells its number to
            :meth:`turned`.
        """
        average, marginal = self.live["grid"], self.live["marginal"]
        found = (
            None if average is None else average.at(now_s),
            None if marginal is None else marginal.at(now_s),
        )
        before, self._figures = self._figures, found
        polled, self._polled = self._polled, now_s
        changed = [new for old, new in zip(before, found, strict=True) if new is not old and new != old]
        if not changed:
            return None
        self.place = self._table.with_live(*found)
        begins = [figure.from_s if figure is not None else now_s for figure in changed]
        return max(begins) if all(polled < begin <= now_s for begin in begins) else now_s

    def turned(self, period: int) -> None:
        """The present place holds from the period of this number on."""
        self._places[period] = self.place
        if len(self._places) > _KEPT:
            del self._places[min(self._places)]

    def of(self, period: int) -> Place:
        """The place of a period; of one too old to be remembered, the oldest known."""
        place = self._places.get(period)
        return place if place is not None else self._places[min(self._places)]
