"""The meter: sensors, sampler, ledger, impact and metrics, for all workers of a host.

``intake`` receives the workers' messages, ``sampler`` reads the sensors, ``pace`` decides when, ``settle`` closes
intervals and settles requests, ``joint`` divides calls that served several requests, ``record`` counts the results
in the metrics, and ``meter`` puts these together. ``host_meters`` counts the meters that run on this host.
"""

from ecolyzer_otel.meter.client import Client
from ecolyzer_otel.meter.meter import Meter

__all__ = ["Client", "Meter"]
