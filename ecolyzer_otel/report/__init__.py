"""``ecolyzer report``: a period's energy, emissions and water as a document, from Prometheus or from a journal.

Data flows one way: a source (:mod:`.from_journal`, :mod:`.from_prometheus`) fills :mod:`.observations`;
:mod:`.figures` computes every number once, with its range; :mod:`.quality` and :mod:`.projection` judge them;
:mod:`.plots`, :mod:`.tidy` and :mod:`.render` show them. Only the last three write anything.
"""
