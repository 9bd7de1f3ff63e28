"""Grid carbon intensity that is fetched or read while the meter runs, behind one interface.

One file per source, all of one shape (``provider.py``); ``refresh.py`` is the thread that keeps figures fresh,
``history.py`` what it keeps, ``cache.py`` what outlives the process, ``fetch.py`` the only place that opens a
connection. Behaviour, variables and limits of each source: ``docs/live.md``.
"""

from ecolyzer_otel.impact.live.figure import Figure
from ecolyzer_otel.impact.live.open import open_live
from ecolyzer_otel.impact.live.refresh import LiveGrid

__all__ = ["Figure", "LiveGrid", "open_live"]
