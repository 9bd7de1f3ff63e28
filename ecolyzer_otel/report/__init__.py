"""``ecolyzer report``: a period's energy, emissions and water as a document, from Prometheus or from a journal.

Data flows one way: a source (:mod:`.from_journal`, :mod:`.from_prometheus`) fills :mod:`.observations`;
:mod:`.figures` computes every figure once, with its range; :mod:`.quality` assesses the figures, :mod:`.projection`
projects them to a year, :mod:`.provenance` lists the factors; :mod:`.sections` arranges them; :mod:`.plots`,
:mod:`.tidy` and :mod:`.render` produce the files.
"""
