"""The node agent: one meter for all services of a host, as a daemon.

``ecolyzer agent`` owns the sensors and serves a Unix socket (mode 0660, group ``ecolyzer``) and the metrics port.
Under systemd it uses the socket that systemd has opened (``LISTEN_FDS``, sd_listen_fds(3)) and reports its state
(``NOTIFY_SOCKET``, sd_notify(3)); both need only a few lines, and no library.

Services receive settlements, never readings: frequent readings of an energy counter reveal secrets of other
processes, so RAPL is readable by root only (CVE-2020-8694). No service can make the agent read its sensors faster
than configured, and ``/metrics`` shows a page that is up to a second old.
"""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import signal
import socket
import stat
import sys
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Final

from ecolyzer_otel.boot.assembly import Setup, prepare
from ecolyzer_otel.boot.private_meter import AGENT_SOCKET, NO_AGENT
from ecolyzer_otel.common.config import Config
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.wire.server import Server

__all__ = ["run"]

_LOG = logging.getLogger(__name__)

GROUP: Final = "ecolyzer"
_MODE: Final = 0o660
_KEY: Final = "--agent-socket (ECOLYZER_AGENT_SOCKET)"
_FIRST_PASSED: Final = 3  # SD_LISTEN_FDS_START


@dataclass(frozen=True, slots=True)
class _ListeningSocket:
    """The listening socket. ``path`` is "" where systemd created it and will remove it."""

    listener: socket.socket
    path: str
    description: str


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Raises:
        ConfigError: the socket or the metrics port cannot be used, or there is any problem under ``--strict``.
    """
    logging.basicConfig(level=config.log_level.upper(), format="%(message)s", stream=sys.stderr)
    listening = _inherited() or _open(config.agent_socket)
    try:
        setup = prepare(config, shared=True)
        try:
            _accept(setup, config)
            print(f"{setup.line()} | agent on {listening.description}", file=sys.stderr, flush=True)
            _serve(setup, listening.listener)
        finally:
            _notify("STOPPING=1")
            setup.close()
    finally:
        listening.listener.close()
        if listening.path:
            with contextlib.suppress(OSError):
                os.unlink(listening.path)
    return 0


def _accept(setup: Setup, config: Config) -> None:
    """Print the problems; raise where an agent would be useless (no metrics port) or ``--strict`` is set."""
    for problem in setup.problems:
        if config.strict or setup.metrics_url is None:
            raise problem
        print(f"ecolyzer: {problem}", file=sys.stderr, flush=True)


def _serve(setup: Setup, listener: socket.socket) -> None:
    server = Server(setup.meter, listener, [])
    reading, writing = os.pipe()
    for descriptor in (reading, writing):
        os.set_blocking(descriptor, False)
    server.wake_on(reading)

    def end(number: int, frame: FrameType | None) -> None:
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watchdog = _Watchdog()
    setup.meter.on_tick = watchdog.pat
    setup.meter.pace.longest_tick = watchdog.longest_tick(setup.meter.pace.longest_tick)
    _notify("READY=1")
    try:
        server.run()
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


# The socket.


def _inherited() -> _ListeningSocket | None:
    """The socket that systemd passed (``LISTEN_FDS``); None where it passed none."""
    passed, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not passed.isdecimal() or int(passed) < 1:
        return None
    try:
        listener = socket.socket(fileno=_FIRST_PASSED)
        if listener.family != socket.AF_UNIX or listener.type != socket.SOCK_STREAM:
            raise OSError(22, "it is not a Unix stream socket")
        listener.getsockname()
    except OSError as error:
        raise ConfigError(
            "LISTEN_FDS", f"the socket that was passed on cannot be used ({error.strerror})",
            "give ListenStream=/run/ecolyzer/agent.sock in the socket unit",
        ) from None  # fmt: skip
    os.set_inheritable(_FIRST_PASSED, False)
    return _ListeningSocket(listener, "", f"{listener.getsockname()} (of systemd)")


def _open(path: str | None) -> _ListeningSocket:
    if path == NO_AGENT:
        raise ConfigError(_KEY, "'none' is not a path to listen on", f"give a path, for example {AGENT_SOCKET}")
    path = os.path.abspath(path or AGENT_SOCKET)
    try:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o755)
        _remove_stale_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # no client may connect before the mode is set
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        owner = _set_group(path)
        listener.listen(512)
    except OSError as error:
        raise ConfigError(
            _KEY, f"{path} cannot be listened on ({error.strerror or error})",
            "give a path in a folder that can be written, at most 107 bytes long, or run the agent as root",
        ) from None  # fmt: skip
    return _ListeningSocket(listener, path, f"{path} (0660 {owner})")


def _remove_stale_socket(path: str) -> None:
    """Remove the socket of an agent that was killed; never one in use, nor another kind of file."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(_KEY, f"{path} exists and is not a socket", "give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except TimeoutError:
            pass
    raise ConfigError(_KEY, f"an agent listens on {path} already", "stop it, or give another path")


def _set_group(path: str) -> str:
    """Set mode and group; returns the resulting "owner:group"."""
    try:
        os.chown(path, -1, grp.getgrnam(GROUP).gr_gid)
    except (KeyError, PermissionError) as error:
        why = "there is no such group" if isinstance(error, KeyError) else "this user may not change the group"
        if os.geteuid() == 0:
            print(
                f"ecolyzer: {path}: the group {GROUP} cannot use it ({why}); groupadd --system {GROUP}, and add "
                "the users of services to it; until then only services of root can connect",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    os.chmod(path, _MODE)
    found = os.stat(path)
    return f"{_name_of(found.st_uid, 'user')}:{_name_of(found.st_gid, 'group')}"


def _name_of(number: int, kind: str) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name if kind == "user" else grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


# systemd.


def _notify(state: str) -> None:
    """Send a state to systemd where ``NOTIFY_SOCKET`` is set. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.setblocking(False)  # a receiver that does not read must not delay the meter
        link.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)


class _Watchdog:
    """Reports to systemd that the meter runs, twice per WatchdogSec=, after which systemd would restart it."""

    def __init__(self) -> None:
        asked = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._period = int(asked) / 2e6 if asked.isdecimal() and mine else 0.0
        self._next = 0.0

    def longest_tick(self, seconds: float) -> float:
        """The longest time between two ticks, in seconds, so that no report is late."""
        return min(seconds, self._period / 2) if self._period else seconds

    def pat(self) -> None:
        """Report, if it is time to. Called at each tick."""
        now = monotonic()
        if self._period and now >= self._next:
            self._next = now + self._period
            _notify("WATCHDOG=1")
