"""The meter of one service: its private folder, its socket, and how a worker starts its process.

The launcher forks it by itself (``cli/instrument.py``).

Either ``ecolyzer-instrument`` starts the meter before CMD runs, or a worker that finds no meter starts one: under
plain ``opentelemetry-instrument``, or after the meter has died. The workers of one service share a folder, whose
name they inherit as a variable, and a lock in it: one of them starts the meter, the others connect to it.

The launcher imports this module while CMD waits, so it imports as little as possible.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from ecolyzer_otel.boot.first_readings import take
from ecolyzer_otel.wire.native import unpatched

try:
    import fcntl
except ImportError:  # Windows: the meter is a thread there
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from ecolyzer_otel.common.config import Config

__all__ = [
    "AGENT_SOCKET",
    "AUTO",
    "FOLDER",
    "NO_AGENT",
    "PrivateMeter",
    "agent_socket",
    "announce_folder",
    "become",
    "detach",
    "leave_folder",
    "listen_privately",
    "pidfd",
]

#: The variable with the private folder of the service's own meter, which all its processes inherit.
FOLDER: Final = "ECOLYZER_METER_FOLDER"
_SOCKET: Final = "meter.sock"
#: Bytes of a Unix socket's path (unix(7): 108 with the final zero).
_MAX_PATH: Final = 107
#: The default socket of the node agent.
AGENT_SOCKET: Final = "/run/ecolyzer/agent.sock"
#: The value of ``--agent-socket`` with which no agent is used.
NO_AGENT: Final = "none"
#: The folder of our ``sitecustomize``.
AUTO: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "auto")


def agent_socket(config: Config) -> str | None:
    """The socket of the agent to report to: the configured one, else the default where it exists and is usable."""
    if config.agent_socket:
        return None if config.agent_socket == NO_AGENT else config.agent_socket
    return AGENT_SOCKET if os.access(AGENT_SOCKET, os.R_OK | os.W_OK) else None


def _places() -> list[str]:
    """Candidates for the private folder, best first. The name holds the PID of its owner, with which it ends."""
    roots = (os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR"), "/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - mkdir is 0700 and exclusive
    name = f"ecolyzer-{os.getpid()}-{os.urandom(6).hex()}"
    folders = [os.path.join(root, name) for root in roots if root]
    return [folder for folder in folders if len(os.fsencode(os.path.join(folder, _SOCKET))) <= _MAX_PATH]


def listen_privately() -> tuple[str, socket.socket, str]:
    """Create a private folder and a listening socket in it. Returns the folder, the socket and the socket's path.

    Workers can connect before the meter is up.

    Raises:
        OSError: there is no folder to write in.
    """
    problem: OSError | None = None
    for folder in _places():
        try:
            os.mkdir(folder, 0o700)
            listener, address = _listen_in(folder)
        except OSError as error:
            problem = error
            continue
        return folder, listener, address
    raise problem or OSError(2, "no folder to write in")


def _listen_in(folder: str) -> tuple[socket.socket, str]:
    address = os.path.join(folder, _SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
        os.chmod(address, 0o600)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener, address


def announce_folder() -> str | None:
    """Set the folder of the shared meter for this process and all that it will start (``ECOLYZER_METER_FOLDER``).

    The first process that needs the folder creates it; nothing is created here. None where no folder is writable.
    """
    folder = os.environ.get(FOLDER)
    if folder:
        return folder
    for folder in _places():
        if os.access(os.path.dirname(folder), os.W_OK | os.X_OK):
            os.environ[FOLDER] = folder
            return folder
    return None


def pidfd(pid: int) -> list[int]:
    """A descriptor that shows the end of a process; none for PID 1 (it outlives the meter) and before Linux 5.3."""
    try:
        return [] if pid == 1 else [os.pidfd_open(pid)]
    except (OSError, AttributeError):
        return []


def command_line(facts: dict[str, Any]) -> list[str]:
    """The command of a meter's process. Its last word identifies it in a list of processes."""
    facts = facts | {"path": [entry for entry in sys.path if entry]}
    # sys.path is passed without the working directory: a types.py there must not shadow a module.
    code = (
        "import sys; sys.path[:] = [entry for entry in sys.path if entry]; import json; "
        "facts = json.loads(sys.argv[1]); sys.path[:] = facts['path']; "
        "from ecolyzer_otel.boot.private_meter import detach; detach(facts); "
        "from ecolyzer_otel.boot.private_meter_process import main; main(facts)"
    )
    return [_python(), "-c", code, json.dumps(facts), "ecolyzer-meter"]


def _python() -> str:
    """The interpreter; a server that embeds one (uWSGI) calls itself ``sys.executable``."""
    if "python" in os.path.basename(sys.executable or ""):
        return sys.executable
    return os.path.join(sys.exec_prefix, "bin", "python3")


def detach(facts: dict[str, Any]) -> None:
    """In the new process: close foreign descriptors, and detach from the parent where asked to."""
    for descriptor in (0, 1, 2):  # a daemon may have closed them; the next file opened must not get their numbers
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    kept = sorted({0, 1, 2, facts["listener"], facts["ready"], *facts["watched"]})
    for low, high in zip(kept, [*kept[1:], 1 << 16], strict=True):
        os.closerange(low + 1, high)
    if facts.get("detach") and os.fork():
        os._exit(0)


def environment() -> dict[str, str]:
    """The environment of the meter: this process's without our ``sitecustomize``, as it is not instrumented."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    own = (AUTO, os.path.join("instrumentation", "auto_instrumentation"))
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(one for one in folders if not one.endswith(own))}


def become(config: Config, facts: dict[str, Any]) -> None:
    """Replace this process by the meter (``exec``).

    Args:
        config: the settings.
        facts: ``listener``, ``ready`` and ``watched`` are descriptors; see
            :mod:`ecolyzer_otel.boot.private_meter_process`.
    """
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for descriptor in (facts["listener"], facts["ready"], *facts["watched"]):
        os.set_inheritable(descriptor, True)
    os.execve(_python(), command_line(facts | {"config": dataclasses.asdict(config)}), environment())


def leave_folder(folder: str) -> None:
    """Remove the socket and folder of a meter that ends, unless a worker is about to start another one there.

    Called while the meter still listens: as long as it accepts connections, no worker starts another.
    """
    lock_file = os.path.join(folder, "lock")
    with contextlib.suppress(OSError):
        lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(os.path.join(folder, _SOCKET))
            os.unlink(lock_file)
            os.rmdir(folder)
        finally:
            os.close(lock)


class PrivateMeter:
    """A service's own meter, as its workers see it: its address, and how to start it again.

    Args:
        folder: the folder that the service's processes share.
        config: the settings of a meter that is started.
    """

    def __init__(self, folder: str, config: Config) -> None:
        self.path = os.path.join(folder, _SOCKET)
        self._folder = folder
        self._config = config
        # The first request of a service comes before its meter: counters read now cover it.
        self._early: dict[str, Any] | None = None if os.path.exists(folder) else take(config.sysfs)

    def start(self) -> None:
        """Start the meter, unless another process is about to. Returns when it can be connected to, at the latest.

        Raises:
            OSError: it cannot be started from here.
        """
        self._make_folder()
        lock = os.open(os.path.join(self._folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_there():
                self._start()
        except BlockingIOError:
            return  # another worker is starting it
        finally:
            os.close(lock)

    def _make_folder(self) -> None:
        try:
            os.mkdir(self._folder, 0o700)
        except FileExistsError:
            self._early = None  # an earlier meter has measured the time before
            found = os.lstat(self._folder)
            # In a folder that anybody may write to, another user could have created it.
            if found.st_uid != os.getuid() or found.st_mode & 0o170077 != 0o040000:
                raise PermissionError(1, f"{self._folder} is not ours alone") from None

    def _is_there(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(self.path)
            except BlockingIOError:
                return True  # its queue is full
            except OSError:
                return False
            return True

    def _start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        listener, _ = _listen_in(self._folder)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        early, self._early = self._early or take(self._config.sysfs), None
        own = [listener.fileno(), null, *pidfd(os.getpid()), *self._root()]
        try:
            # Numbers above all of these, so that none is overwritten before it is passed on.
            numbers = [max(own) + 1 + index for index in range(len(own))]
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
            actions += [(os.POSIX_SPAWN_DUP2, old, new) for old, new in zip(own, numbers, strict=True)]
            facts = {
                "config": dataclasses.asdict(self._config), "listener": numbers[0], "ready": numbers[1],
                "watched": numbers[2:], "folder": self._folder, "early": early, "detach": True,
            }  # fmt: skip
            command = command_line(facts)
            # Not subprocess: gevent's would wait in the event loop of the service.
            spawn = unpatched("os", "posix_spawn")
            first = spawn(command[0], command, environment(), file_actions=actions, setsid=True)
        finally:
            listener.close()
            for descriptor in own[1:]:
                os.close(descriptor)
        with contextlib.suppress(ChildProcessError):  # the service waits for all its children
            unpatched("os", "waitpid")(first, 0)

    def _root(self) -> list[int]:
        """The descriptor of the folder's owner, while that is an ancestor of this process."""
        try:
            root, pid = int(os.path.basename(self._folder).split("-")[1]), os.getpid()
            while pid > 1:
                if pid == root:
                    return [] if pid == os.getpid() else pidfd(root)
                with open(f"/proc/{pid}/stat", "rb") as file:
                    pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            pass
        return []
