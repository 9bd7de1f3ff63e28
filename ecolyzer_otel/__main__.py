"""``python -m ecolyzer_otel``: the command ``ecolyzer``."""

from __future__ import annotations

import sys

from ecolyzer_otel.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
