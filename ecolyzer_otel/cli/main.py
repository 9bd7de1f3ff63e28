"""``ecolyzer``: the tools beside the launcher."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from ecolyzer_otel.errors import EcolyzerError
from ecolyzer_otel.version import __version__

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``ecolyzer``. Returns the exit status: 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="ecolyzer", description="The energy meter of live ML inference.")
    parser.add_argument("--version", action="version", version=f"ecolyzer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    replay = commands.add_parser("replay", help="run the ledger over a recorded file and print the result as JSON")
    replay.add_argument("file", help="replay file (JSON, version 1); - reads standard input")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(_replay(options.file), allow_nan=False))
    except EcolyzerError as error:
        print(f"ecolyzer: {options.file}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _replay(path: str) -> dict[str, Any]:
    from ecolyzer_otel.errors import ReplayError
    from ecolyzer_otel.ledger.replay import replay

    try:
        if path == "-":
            document = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
    except OSError as error:
        raise ReplayError(f"cannot be read ({error.strerror}); give a replay file") from None
    except (ValueError, RecursionError) as error:
        raise ReplayError(f"is not JSON ({error})") from None
    return replay(document)


if __name__ == "__main__":
    sys.exit(main())
