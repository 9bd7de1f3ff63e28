"""Simulated power with its truth, sensors that measure it, and the scores of methods that divide it over requests.

The simulator shares no code with ``ecolyzer_otel.ledger``; both use only the format of replay files.
"""

from .oracle import oracle
from .scenarios import SCENARIOS
from .score import Score, score
from .trace import RequestTruth, Truth, make_trace

__all__ = ["SCENARIOS", "RequestTruth", "Score", "Truth", "make_trace", "oracle", "score"]
