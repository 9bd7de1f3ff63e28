"""``ecolyzer-instrument [options] CMD ARGS...``: start a service unchanged, and measure its requests.

The launcher starts the meter in a session of its own and then *becomes* CMD (``exec``): PID, signals, streams and
exit status are CMD's own. It imports as little as it can, because CMD waits for it. As PID 1 it stays instead, as
a small init (:mod:`ecolyzer_otel.cli.pid1`).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ecolyzer_otel.boot.first_readings import take
from ecolyzer_otel.boot.private_meter import (
    AGENT_SOCKET,
    AUTO,
    FOLDER,
    agent_socket,
    become,
    listen_privately,
    pidfd,
)
from ecolyzer_otel.common.config import OPTIONS, Loaded, load, parse_flags
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.common.options import FOR_METER

if TYPE_CHECKING:
    from ecolyzer_otel.common.config import Config

__all__ = ["main"]

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126
_REFUSED: Final = 2
#: Seconds that a strict launcher waits for the meter's answer.
_VERDICT_SECONDS: Final = 20.0
#: A meter that lets CMD start first starts after this many seconds anyway, so that its page is served.
_PATIENCE_SECONDS: Final = 3.0


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of ``ecolyzer-instrument``."""
    problems: list[ConfigError] = []
    texts, asked, command = parse_flags(sys.argv[1:] if arguments is None else arguments, problems)
    if asked:
        _print_and_exit(asked[0])
    loaded = load(texts, problems=problems)
    for problem in loaded.problems:
        _log(str(problem))
    if not command:
        _log("CMD: is missing; write ecolyzer-instrument [options] CMD ARGS..., for example python serve.py")
        sys.exit(_REFUSED)
    if loaded.config.strict and loaded.problems:
        sys.exit(_REFUSED)
    path = _find(command[0])
    environment = _environment(loaded, texts)
    if _use_agent(loaded.config, environment, texts):
        _execute(path, command, environment)
    if os.getpid() == 1:
        from ecolyzer_otel.cli.pid1 import run_as_init

        run_as_init(lambda pid: _start_meter(loaded.config, environment, pid), path, command, environment)
    _start_meter(loaded.config, environment, os.getpid())
    _execute(path, command, environment)


def _log(line: str) -> None:
    print(f"ecolyzer: {line}", file=sys.stderr, flush=True)


def _use_agent(config: Config, environment: dict[str, str], texts: dict[str, str]) -> bool:
    """Whether CMD reports to a meter that runs already, which then goes by its own settings."""
    address = agent_socket(config)
    if address is None:
        if config.agent_socket is None and os.path.exists(AGENT_SOCKET):
            _log(
                f"the agent: {AGENT_SOCKET} may not be used by user {os.getuid()}; add the user to the group "
                "ecolyzer (usermod -aG ecolyzer USER); a meter of CMD's own is started"
            )
        return False
    fault = _fault_of(address)
    if fault and config.agent_socket is None:
        _log(f"the agent: {address} does not answer ({fault}); start it again; a meter of CMD's own is started")
        return False
    if fault:
        _log(
            f"--agent-socket (ECOLYZER_AGENT_SOCKET): {address} does not answer ({fault}); start the agent "
            f"(ecolyzer agent); until it answers nothing is measured"
        )
        if config.strict:
            sys.exit(_REFUSED)
    if os.path.dirname(address) != environment.get(FOLDER):
        environment.pop(FOLDER, None)  # of another meter that started us
        _log(f"reports to the agent at {address}")
    ignored = sorted(set(texts) & FOR_METER)
    if ignored:
        flags = ", ".join("--" + name.replace("_", "-") for name in ignored)
        _log(f"{flags}: the agent goes by its own; set it there, or give --agent-socket none")
    environment["ECOLYZER_AGENT_SOCKET"] = address
    return True


def _fault_of(address: str) -> str:
    """Why this socket cannot be used; "" when it accepts connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        try:
            probe.connect(address)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _find(command: str) -> str:
    """The file of ``command`` by PATH; ends with 127 or 126, as a shell does, when there is none."""
    folders = [""] if os.sep in command else os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [path for path in (os.path.join(folder, command) for folder in folders) if os.path.isfile(path)]
    for path in found:
        if os.access(path, os.X_OK):
            return path
    if found:
        _log(f"CMD: {found[0]} is not executable; write python {found[0]}, or chmod +x it")
        sys.exit(_NOT_EXECUTABLE)
    _log(f"CMD: {command!r} was not found; give a command on PATH or a path to one")
    sys.exit(_NOT_FOUND)


def _environment(loaded: Loaded, texts: dict[str, str]) -> dict[str, str]:
    """CMD's environment: OpenTelemetry's auto-instrumentation with our distro, and the options as variables."""
    environment = dict(os.environ)
    for option in OPTIONS:
        if option.name in texts:
            environment[option.variable] = option.spell(getattr(loaded.config, option.name))
    environment.setdefault("OTEL_PYTHON_DISTRO", "ecolyzer")
    environment.setdefault("OTEL_PYTHON_CONFIGURATOR", "ecolyzer")
    others = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != AUTO]
    environment["PYTHONPATH"] = os.pathsep.join([AUTO, *others])
    return environment


def _execute(path: str, command: list[str], environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    try:
        os.execve(path, command, environment)
    except OSError as error:
        _log(f"CMD: {path} cannot be run ({error.strerror}); is it a script without a first line #!...?")
        sys.exit(_NOT_EXECUTABLE)


def _start_meter(config: Config, environment: dict[str, str], pid: int) -> tuple[int, int]:
    """Start the meter for the process ``pid``; sets ``ECOLYZER_AGENT_SOCKET``.

    Returns the meter's PID (0 unless we are PID 1) and the end of the lifeline that CMD inherits (-1: none).

    Whatever fails here costs the measurement, never the service, except under ``--strict``.
    """
    try:
        folder, listener, address = listen_privately()
        lifeline, held = os.pipe()
        verdict, ready = os.pipe()
    except OSError as error:
        _log(f"the meter: cannot be started ({error.strerror}); set TMPDIR to a folder that can be written")
        if config.strict:
            sys.exit(_REFUSED)
        return 0, -1
    os.set_inheritable(held, True)  # CMD and all that it forks keep this end: EOF shows that they have ended
    watched = [lifeline, *pidfd(pid)]
    facts = {"watched": watched, "ready": ready, "folder": folder, "early": take(config.sysfs)}
    meter = _spawn(config, listener, facts)
    for descriptor in (*watched, ready):
        os.close(descriptor)
    listener.close()
    environment["ECOLYZER_AGENT_SOCKET"] = address
    environment[FOLDER] = folder
    if config.strict and not _accepted(verdict):
        sys.exit(_REFUSED)
    os.close(verdict)
    return meter, held


def _spawn(config: Config, listener: socket.socket, facts: dict[str, Any]) -> int:
    """Fork the meter twice, into a session of its own: never a child that CMD might wait for."""
    sys.stderr.flush()
    first = os.fork()
    if first == 0:
        try:
            os.setsid()
            if os.getppid() != 1 and os.fork():  # PID 1 reaps it itself
                os._exit(0)
            if not config.strict:
                _let_pass(listener, facts["watched"])
            become(config, facts | {"listener": listener.fileno()})
        finally:
            os._exit(1)
    if os.getpid() != 1:
        os.waitpid(first, 0)
        return 0
    return first


def _let_pass(listener: socket.socket, watched: list[int]) -> None:
    """Where there is one CPU, wait for the first worker: the meter would start at the cost of CMD's own start.

    Nothing is lost meanwhile: counters are cumulative, and the readings from before CMD are taken already.
    """
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) > 1:
        return
    import select

    waited: list[Any] = [listener, *watched]
    select.select(waited, [], [], _PATIENCE_SECONDS)


def _accepted(verdict: int) -> bool:
    """The meter's answer about the settings, under ``--strict``."""
    import select

    said = b""
    while select.select([verdict], [], [], _VERDICT_SECONDS)[0]:
        data = os.read(verdict, 4096)
        if not data:
            break
        said += data
    try:
        return not json.loads(said)["refused"]
    except (ValueError, KeyError):
        _log("the meter: did not start; try again with --log-level debug, or without --strict")
        return False


def _print_and_exit(asked: str) -> NoReturn:
    if asked == "--version":
        from ecolyzer_otel.version import __version__

        print(f"ecolyzer-instrument {__version__}")
        sys.exit(0)
    print("usage: ecolyzer-instrument [options] CMD ARGS...\n")
    print("Start CMD unchanged and measure the energy, CO2e and water of its inference requests.\n")
    print("options (each is also a variable, ECOLYZER_PORT for --port, and a key of the file ECOLYZER_CONFIG):")
    for option in OPTIONS:
        name = option.flag if option.is_switch else f"{option.flag} {option.metavar}"
        print(f"  {name:<28}{option.help}")
    print("  --version                   print the version\n")
    print("example: ecolyzer-instrument --zone FR python serve.py")
    sys.exit(0)


if __name__ == "__main__":
    main()
