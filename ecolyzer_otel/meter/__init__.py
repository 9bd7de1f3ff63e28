"""The meter: sensors, sampler, ledger, impact and metrics, for every worker of a host.

``intake`` hears the workers, ``sampler`` reads the sensors, ``meter`` closes intervals and settles; ``neighbours``
knows of other meters on this host.
"""

from ecolyzer_otel.meter.client import Client
from ecolyzer_otel.meter.meter import Meter

__all__ = ["Client", "Meter"]
