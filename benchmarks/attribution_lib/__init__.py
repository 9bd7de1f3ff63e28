"""Hidden truth, sensors that show a part of it, and the scores of those who divide it over requests.

The simulator shares no code with ``ecolyzer_otel.ledger``: it knows only the replay file's format.
"""

from .oracle import oracle
from .scenarios import SCENARIOS
from .score import Score, score
from .trace import RequestTruth, Truth, make_trace

__all__ = ["SCENARIOS", "RequestTruth", "Score", "Truth", "make_trace", "oracle", "score"]
