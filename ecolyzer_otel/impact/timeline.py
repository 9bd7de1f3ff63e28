"""The factors of one place over time, so that each joule is charged at the factors of its own time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ecolyzer_otel.impact.place import Place

if TYPE_CHECKING:
    from ecolyzer_otel.impact.live.figure import Figure

__all__ = ["LiveSource", "Timeline"]

#: Periods that are kept: a request that settles now began in one of the last few.
_KEPT: Final = 300


class LiveSource(Protocol):
    """A source of live figures: :class:`ecolyzer_otel.impact.live.refresh.LiveGrid`."""

    @property
    def source(self) -> str:
        """Its name, short enough for a metric label."""

    @property
    def outcomes(self) -> Mapping[str, int]:
        """Number of fetches by outcome."""

    @property
    def problem(self) -> str | None:
        """The present fault in one line; None while there is none."""

    def at(self, unix_s: float) -> Figure | None:
        """The figure that is valid at that Unix time, or None. Never blocks, never raises."""

    def start(self) -> None:
        """Begin to fetch figures."""

    def close(self, timeout: float = 1.0) -> None:
        """End the fetching, waiting at most ``timeout`` seconds."""


class Timeline:
    """The place of each period, by the ledger's number of the period.

    Args:
        place: with the table's figures, which hold while no live one is valid.
        average: live figures of the grid's carbon intensity, or None.
        marginal: live figures of its marginal intensity, or None.
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
    def can_change(self) -> bool:
        """Whether factors can change: whether there is a live source."""
        return any(source is not None for source in self.live.values())

    def start(self) -> None:
        """Start the live sources."""
        for source in self.live.values():
            if source is not None:
                source.start()

    def close(self) -> None:
        """Stop the live sources."""
        for source in self.live.values():
            if source is not None:
                source.close()

    def begin(self, now_s: float) -> None:
        """Use the figures available at the start (Unix time ``now_s``), before anything is charged."""
        if self.poll(now_s) is not None:
            self._places = {0: self.place}

    def poll(self, now_s: float) -> float | None:
        """Update :attr:`place` to the figures that are valid at Unix time ``now_s``.

        Returns:
            None if nothing has changed; else the Unix time from which the new place holds: the beginning of a
            figure that was fetched in advance, else now. The caller begins a period of the ledger there and passes
            its number to :meth:`begin_period`.
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
        starts = [figure.from_s if figure is not None else now_s for figure in changed]
        return max(starts) if all(polled < start <= now_s for start in starts) else now_s

    def begin_period(self, period: int) -> None:
        """The present place holds from the period of this number on."""
        self._places[period] = self.place
        if len(self._places) > _KEPT:
            del self._places[min(self._places)]

    def place_of(self, period: int) -> Place:
        """The place of a period; of a period that is no longer kept, the oldest one kept."""
        place = self._places.get(period)
        return place if place is not None else self._places[min(self._places)]
