"""The ledger: splits the joules of each closed sensor interval over requests, process, host and idle.

Pure: no clock, no I/O, no threads. Samples, activity and records go in, settlements come out. The same input always
gives the same output, so that a bug report can be replayed (:mod:`ecolyzer_otel.ledger.replay`).

Other folders import these names from here; modules of this folder import from each other.
"""

from ecolyzer_otel.ledger.activity import Activity
from ecolyzer_otel.ledger.ledger import Ledger, overall
from ecolyzer_otel.ledger.types import (
    Charge,
    Kind,
    Partition,
    Record,
    SensorSpec,
    Settlement,
    Shares,
    kind_of,
)

__all__ = [
    "Activity",
    "Charge",
    "Kind",
    "Ledger",
    "Partition",
    "Record",
    "SensorSpec",
    "Settlement",
    "Shares",
    "kind_of",
    "overall",
]
