"""Live grid carbon intensity: figures that are fetched or read while the meter runs, behind one interface.

One file per source, all of one shape (``provider.py``). ``refresh.py`` is the thread that fetches figures,
``history.py`` holds them, ``cache.py`` keeps them across restarts, and only ``fetch.py`` opens connections.
Behaviour, variables and limits of each source: ``docs/live.md``.
"""
