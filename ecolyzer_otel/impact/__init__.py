"""Converts joules to gCO2e, litres of water and ESS, by the factors of the place where the machine stands.

Pure computation over packaged tables (``data/*.csv``, provenance in every row, licences in ``NOTICE``); a table is
read when a function first needs it, not at import. Every formula, with its source and a worked example:
``docs/methodology.md``.
"""
