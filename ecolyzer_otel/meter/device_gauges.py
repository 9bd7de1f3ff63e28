"""Metrics of the devices: how their joules were divided, and what was learned of them."""

from __future__ import annotations

from typing import Final

from ecolyzer_otel.common.metrics import Metric
from ecolyzer_otel.export.store import MetricStore
from ecolyzer_otel.ledger import Shares
from ecolyzer_otel.sensors import SensorInfo

__all__ = ["DeviceGauges"]

_SHARES: Final = ("requests", "process", "host", "idle")


class DeviceGauges:
    """Shows the joules and the learned properties of each sensor.

    Args:
        store: holds the gauges and counters.
    """

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._shown: dict[tuple[str, str, str], float] = {}

    def show(self, info: SensorInfo, shares: Shares, held: float = 0.0) -> None:
        """Show how the joules of one sensor were divided so far.

        Args:
            info: the sensor.
            shares: the division of its joules.
            held: active joules in the share of the requests that no request has received yet.
        """
        device, component, method = info.id, info.component, info.method
        values: dict[tuple[str, str], float] = {(method, share): getattr(shares, share) for share in _SHARES}
        values[method, "requests"] -= held
        if method != "modelled" and shares.modelled:
            # Joules that requests drew while the sensor gave no readings are shown under their own method.
            values[method, "requests"] -= shares.modelled
            values["modelled", "requests"] = shares.modelled
        with self._store.transaction():
            for (way, share), value in values.items():
                self._store.counter(Metric.DEVICE_ENERGY, (device, component, way, share)).inc(
                    self._growth(device, way, share, value)
                )
            measured = self._growth(device, "", "measured", shares.measured)
            self._store.counter(Metric.DEVICE_MEASURED, (device, component)).inc(measured)
            self._store.gauge(Metric.DEVICE_ENERGY_PENDING, (device, component)).set(
                max(0.0, shares.pending) + held
            )

    def _growth(self, device: str, method: str, share: str, value: float) -> float:
        """Growth since the last call; counters only grow."""
        key = device, method, share
        grown = max(0.0, value - self._shown.get(key, 0.0))
        self._shown[key] = value
        return grown

    def show_learned(self, info: SensorInfo, idle: float, trusted: bool, ceiling: float | None) -> None:
        """Show what was learned of one sensor.

        Args:
            info: the sensor.
            idle: idle power in watts.
            trusted: whether learned intensities are used.
            ceiling: highest power in watts; None while it is not learned.
        """
        labels = info.id, info.component
        self._store.gauge(Metric.DEVICE_IDLE_POWER, labels).set(idle)
        self._store.gauge(Metric.DEVICE_LEARNED, labels).set(int(trusted))
        if ceiling is None:
            self._store.remove(Metric.DEVICE_CEILING, labels)
        else:
            self._store.gauge(Metric.DEVICE_CEILING, labels).set(ceiling)
