"""``ecolyzer``: the tools beside the launcher."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import msgspec

from ecolyzer_otel.boot.private_meter import AGENT_SOCKET
from ecolyzer_otel.cli import report, zones
from ecolyzer_otel.common.config import OPTIONS, load
from ecolyzer_otel.common.errors import ConfigError, EcolyzerError
from ecolyzer_otel.version import __version__

__all__ = ["main"]

#: Options of the measured process, not of the meter.
_NOT_FOR_AGENT = ("exit_flush", "count_training", "model_names")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``ecolyzer``. Returns the exit status: 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="ecolyzer", description="The energy meter of live ML inference.")
    parser.add_argument("--version", action="version", version=f"ecolyzer {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    replay = commands.add_parser("replay", help="run the ledger over a recorded file and print the result as JSON")
    replay.add_argument("file", help="replay file (JSON, version 1); - reads standard input")
    agent = commands.add_parser(
        "agent",
        help="one meter for all services of this host, as a daemon",
        description="The node agent: owns the sensors, serves a socket to services and /metrics, ends on SIGTERM.",
        epilog="Each option is also a variable, ECOLYZER_PORT for --port, and a key of the file ECOLYZER_CONFIG.",
        allow_abbrev=False,
    )
    for option in OPTIONS:
        if option.name not in _NOT_FOR_AGENT:
            kind: dict[str, Any] = (
                {"action": "store_const", "const": "true"} if option.is_switch else {"metavar": option.metavar}
            )
            text = f"socket to serve (default {AGENT_SOCKET})" if option.name == "agent_socket" else option.help
            flags = [option.flag, "--socket"] if option.name == "agent_socket" else [option.flag]
            agent.add_argument(*flags, dest=option.name, help=text.replace("%", "%%"), **kind)
    zones.add_parser(commands)
    report.add_parser(commands)
    options = parser.parse_args(arguments)
    if options.command == "agent":
        return _agent(options)
    if options.command == "zones":
        return zones.run(options)
    if options.command == "report":
        return report.run(options)
    try:
        sys.stdout.buffer.write(msgspec.json.encode(_replay(options.file)) + b"\n")
        sys.stdout.buffer.flush()
    except EcolyzerError as error:
        print(f"ecolyzer: {options.file}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _agent(options: argparse.Namespace) -> int:
    from ecolyzer_otel.boot.agent import run

    flags = {option.name: getattr(options, option.name, None) for option in OPTIONS}
    loaded = load({name: text for name, text in flags.items() if text is not None})
    for problem in loaded.problems:
        print(f"ecolyzer: {problem}", file=sys.stderr, flush=True)
    if loaded.problems and loaded.config.strict:
        return 1
    try:
        return run(loaded.config)
    except ConfigError as error:
        print(f"ecolyzer: {error}", file=sys.stderr, flush=True)
        return 1


def _replay(path: str) -> dict[str, Any]:
    from ecolyzer_otel.common.errors import ReplayError
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
