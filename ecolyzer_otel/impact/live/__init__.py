"""Grid carbon intensity that is fetched or read while the meter runs, behind one interface.

One file per source, all of one shape (``provider.py``); ``refresh.py`` is the thread that keeps figures fresh,
``history.py`` what it keeps, ``cache.py`` what outlives the process, ``fetch.py`` the only place that opens a
connection. Behaviour, variables and limits of each source: ``docs/live.md``.
"""
