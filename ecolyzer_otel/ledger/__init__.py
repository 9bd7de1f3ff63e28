"""The ledger: splits the joules of each closed sensor interval over requests, process, host and idle.

Pure: no clock, no I/O, no threads. Timeline in (samples, activity, requests), settlements out; the same input
gives the same output, so that a bug report can be replayed (:mod:`ecolyzer_otel.ledger.replay`).
"""

from ecolyzer_otel.ledger.ledger import Ledger, overall
from ecolyzer_otel.ledger.types import (
    Charge,
    Component,
    Kind,
    Method,
    Partition,
    Record,
    SensorSpec,
    Settlement,
    Shares,
    kind_of,
)

__all__ = [
    "Charge",
    "Component",
    "Kind",
    "Ledger",
    "Method",
    "Partition",
    "Record",
    "SensorSpec",
    "Settlement",
    "Shares",
    "kind_of",
    "overall",
]
