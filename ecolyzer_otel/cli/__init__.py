"""The commands ``ecolyzer-instrument`` and ``ecolyzer``."""
