"""The factors in use: their periods, their gauges, and the message that reports them to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic_ns, time

from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.impact.embodied import Embodied
from ecolyzer_otel.impact.place import Place
from ecolyzer_otel.impact.provenance import time_of
from ecolyzer_otel.impact.timeline import Timeline
from ecolyzer_otel.ledger import Charge, Ledger
from ecolyzer_otel.meter.factor_gauges import FactorGauges
from ecolyzer_otel.meter.impacts import Assessment, assess
from ecolyzer_otel.sensors import SensorInfo
from ecolyzer_otel.wire.protocol import PlaceFacts

__all__ = ["CurrentFactors"]


class CurrentFactors:
    """The factors of one meter. Called under the meter's lock.

    Args:
        timeline: the place over time.
        embodied: emissions of the hardware.
        ledger: a change of the factors begins a period there.
        store: holds the gauges.
        sensors: the meter's sensors.

    Attributes:
        assess: returns the impact of the charges of one request.
        changes: how often the factors have changed.
    """

    def __init__(
        self,
        timeline: Timeline,
        embodied: Embodied,
        ledger: Ledger,
        store: MetricStore,
        sensors: Iterable[SensorInfo],
    ) -> None:
        self.assess: Callable[[Sequence[Charge]], Assessment] = partial(
            assess, place_of=timeline.place_of, embodied=embodied
        )
        self.changes = 0
        self._timeline = timeline
        self._ledger = ledger
        self._gauges = FactorGauges(store, embodied, {info.id: info.component for info in sensors})
        timeline.begin(time())
        self._gauges.show(timeline.place)

    @property
    def place(self) -> Place:
        """The place with the factors that hold now."""
        return self._timeline.place

    @property
    def live_sources(self) -> dict[str, str]:
        """The state of each live source by its role: ``ok``, or its present fault."""
        return {name: source.problem or "ok" for name, source in self._timeline.live.items() if source is not None}

    def facts(self) -> PlaceFacts:
        """Returns the factors as workers receive them."""
        place = self.place
        return PlaceFacts(
            place.zone,
            place.grams_per_kwh,
            place.basis,
            place.source,
            place.pue,
            place.year,
            time_of(place),
            place.estimated,
            place.defaulted,
            place.wue,
            place.water_method,
            place.water_source,
        )

    def poll(self) -> None:
        """Begin a period where a live figure has changed: joules drawn from then on are charged at the new one."""
        if not self._timeline.can_change:
            return
        now_s = time()
        since = self._timeline.poll(now_s)
        if since is None:
            return
        self._timeline.begin_period(self._ledger.begin_period(monotonic_ns() - round((now_s - since) * 1e9)))
        self.changes += 1
        self._gauges.show(self.place)

    def show(self, seconds: float) -> None:
        """Update the counters of the ``seconds`` since the last call."""
        self._gauges.count_embodied(seconds)
        for role, source in self._timeline.live.items():
            if source is not None:
                self._gauges.count_fetches(role, source.source, source.outcomes)
