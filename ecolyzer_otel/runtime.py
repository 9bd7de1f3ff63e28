"""Which meter this process reports to, and the public ``start``, ``stop`` and ``flush``."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ecolyzer_otel import call
from ecolyzer_otel.agent.exits import chain_sigterm, register
from ecolyzer_otel.call import State, replace_state, state
from ecolyzer_otel.config import Config, load
from ecolyzer_otel.model_names import use_rules

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from ecolyzer_otel.agent.native import Alarm
    from ecolyzer_otel.agent.server import Server
    from ecolyzer_otel.agent.worker import Worker
    from ecolyzer_otel.assembly import Setup
    from ecolyzer_otel.wrap import ModelFacts

__all__ = ["Running", "activate", "counts", "flush", "instrument", "start", "stop", "uninstrument"]

_LOG = logging.getLogger(__name__)


def activate() -> None:
    """Make this process report at its first request: to the node agent, else to the meter that its service shares.

    Cheap, and opens nothing. Called again it changes nothing.
    """
    here = state()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    if here.start_worker is None:
        config = load().config
        here.start_worker = _choose_meter(config)
        call.counts_training = config.count_training
        use_rules(config.model_names)
        if config.exit_flush:
            chain_sigterm()


def make_ready() -> None:
    """Do now, while a framework is being patched, what the first request would otherwise wait for."""
    from ecolyzer_otel.telemetry import spans

    call.open_span = spans.open_span
    # All that the background thread will need as well: a fork in the middle of an import of it would leave the
    # child with a lock that nobody gives back.
    import ecolyzer_otel.agent.link
    import ecolyzer_otel.agent.worker  # noqa: F401 - for the effect


def _choose_meter(config: Config) -> Callable[[State], Worker]:
    """How a worker of this process finds its meter: the agent, the service's own, or as a last resort a thread."""
    from ecolyzer_otel.agent.starter import FOLDER, agent_socket, announce_folder

    address = agent_socket(config)
    folder = os.environ.get(FOLDER)
    if address and (folder is None or os.path.dirname(address) != folder):
        return lambda here: _socket_worker(here, address, config)
    if not hasattr(os, "posix_spawn") or sys.platform == "darwin":
        return _own_meter
    folder = announce_folder()
    return _own_meter if folder is None else lambda here: _private_worker(here, folder, config)


def _socket_worker(here: State, address: str, config: Config) -> Worker:
    from ecolyzer_otel.agent.link import SocketLink

    return _begin_worker(here, SocketLink(address), config)


def _private_worker(here: State, folder: str, config: Config) -> Worker:
    from ecolyzer_otel.agent.link import PrivateLink
    from ecolyzer_otel.agent.starter import PrivateMeter

    return _begin_worker(here, PrivateLink(PrivateMeter(folder, config)), config)


def _begin_worker(here: State, link: Any, config: Config) -> Worker:
    from ecolyzer_otel.agent.worker import Worker

    worker = Worker(here, link)
    here.worker = worker
    if config.exit_flush:
        register()
    worker.start()
    return worker


def _own_meter(here: State) -> Worker:
    """Where no process can be started (macOS, Windows, nowhere to write), the meter is a thread."""
    config = load().config
    _running.begin(config, None, here)
    return here.worker  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Running:
    """What :func:`start` gives back: where to look, and what was wrong."""

    url: str | None
    line: str
    problems: tuple[str, ...]


class _InProcess:
    """The meter that runs as a thread of this process, and serves the processes that are forked from it."""

    def __init__(self) -> None:
        self.setup: Setup | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._alarm: Alarm | None = None
        self._disconnect: Callable[[], None] | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        return self.setup is not None and self._pid == os.getpid()

    def begin(self, config: Config, meter_provider: MeterProvider | None, here: State) -> Setup:
        from ecolyzer_otel.agent.link import LocalLink
        from ecolyzer_otel.agent.native import Alarm
        from ecolyzer_otel.agent.server import Server
        from ecolyzer_otel.assembly import prepare

        setup = prepare(config, alone=True)
        if meter_provider is not None:
            from ecolyzer_otel.telemetry.bridge import bridge

            try:
                self._disconnect = bridge(setup.meter.store, meter_provider)
            except Exception:
                setup.close()
                raise
        self.setup, self._pid = setup, os.getpid()
        for problem in setup.problems:
            _LOG.warning("ecolyzer: %s", problem)
        listener, address = _listen_abstractly()
        self._server = Server(setup.meter, listener, [], user=os.getuid() if listener else None)
        self._alarm = Alarm()
        self._server.wake_on(self._alarm.descriptor)
        setup.meter.poke = self._alarm.ring
        self._thread = threading.Thread(target=self._server.run, name="ecolyzer-meter", daemon=True)
        self._thread.start()
        _begin_worker(here, LocalLink(setup.meter), config)
        # What is forked from here reports to this meter, too.
        here.start_worker = _own_meter if address is None else lambda child: _socket_worker(child, address, config)
        return setup

    def forked(self) -> None:
        """In the parent, after a fork: there may be another worker from now on."""
        if self.setup is not None:
            self.setup.meter.alone = False

    def end(self, timeout: float) -> None:
        setup, self.setup = self.setup, None
        if setup is None or self._server is None or self._alarm is None or self._thread is None:
            return
        setup.close()
        self._server.stop()
        self._alarm.ring()
        self._thread.join(timeout)
        self._server.close_all()
        self._alarm.close()
        if self._disconnect is not None:
            self._disconnect()
            self._disconnect = None


def _listen_abstractly() -> tuple[socket.socket | None, str | None]:
    """A socket with a name in the kernel's abstract namespace, which leaves no file behind; None off Linux."""
    if not sys.platform.startswith("linux"):
        return None, None
    address = f"\0ecolyzer-{os.getpid()}-{os.urandom(8).hex()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
        listener.listen(64)
    except OSError:
        listener.close()
        return None, None
    return listener, address


_running = _InProcess()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_running.forked)


def start(*, meter_provider: MeterProvider | None = None, config: Config | None = None, **options: Any) -> Running:
    """Start measuring in this process: the meter as a thread, every supported framework patched.

    Args:
        meter_provider: an OpenTelemetry MeterProvider of the application, into which the same metrics are also
            recorded under the same names.
        config: the settings; default: environment, file, defaults.
        **options: single settings by name (``zone="FR"``, ``port=0``), over ``config``.

    Returns:
        Where ``/metrics`` is served, what is measured by what, and what was wrong on the way (also logged).

    Raises:
        ConfigError: an option is unknown or its value cannot be used.
        RuntimeError: measuring runs already; :func:`stop` it first.
    """
    if _running.alive:
        raise RuntimeError("ecolyzer_otel is started already; stop() it first")
    settings = _settings(config, options)
    call.counts_training = settings.count_training
    use_rules(settings.model_names)
    here = replace_state(_own_meter)
    here.started = True  # begun right here, not by the first request
    try:
        setup = _running.begin(settings, meter_provider, here)
    except Exception:
        replace_state(None)
        raise
    instrument()
    url = f"{setup.server.url}/metrics" if setup.server else None
    return Running(url, setup.line(), tuple(str(problem) for problem in setup.problems))


def _settings(config: Config | None, options: dict[str, Any]) -> Config:
    if config is not None:
        # Checked by the same rules: what is already a value of the right kind reads back as itself.
        loaded = load({name: str(value) for name, value in options.items() if value is not None}, environ={})
        given = {name: getattr(loaded.config, name) for name in options if hasattr(loaded.config, name)}
        settings = replace(config, **given)
    else:
        loaded = load({name: str(value) for name, value in options.items() if value is not None})
        settings = loaded.config
    unknown = [name for name in options if not hasattr(settings, name)]
    if unknown:
        from ecolyzer_otel.errors import ConfigError

        raise ConfigError(unknown[0], "is not an option", "see ecolyzer-instrument --help")
    for problem in loaded.problems:
        raise problem
    return settings


def stop(timeout: float = 5.0) -> None:
    """Settle what is finished, restore every framework, end the meter. Does nothing where none runs."""
    uninstrument()
    worker = state().worker
    replace_state(None)
    if worker is not None:
        worker.stop(timeout)
    if _running.alive:
        _running.end(timeout)


def flush(timeout: float = 5.0) -> bool:
    """Wait until every request finished so far is settled.

    Returns:
        Whether that came about within ``timeout`` seconds. True when nothing was ever measured.
    """
    worker = state().worker
    return True if worker is None else worker.flush(timeout)


def counts() -> dict[str, int]:
    """Requests of this process: ``served`` = ``accounted`` (settled or unsettled) + ``dropped`` + ``pending``."""
    worker = state().worker
    if worker is None:
        return {"served": 0, "accounted": 0, "dropped": state().dropped, "pending": 0}
    return worker.counts()  # type: ignore[no-any-return]


def _instrumentors() -> Iterator[Any]:
    from importlib.metadata import entry_points

    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        if entry_point.name.startswith("ecolyzer_"):
            with contextlib.suppress(ImportError):
                yield entry_point.load()()


#: Who describes models of which package; the first that a class descends from.
_DESCRIBERS = {
    "sentence_transformers": "ecolyzer_sentence_transformers",
    "transformers": "ecolyzer_transformers",
    "keras": "ecolyzer_keras",
    "torch": "ecolyzer_torch",
    "onnxruntime": "ecolyzer_onnxruntime",
    "xgboost": "ecolyzer_xgboost",
    "lightgbm": "ecolyzer_lightgbm",
    "sklearn": "ecolyzer_sklearn",
    "tensorflow": "ecolyzer_tensorflow",
}


def describe(model: Any) -> ModelFacts:
    """Facts of a model of any supported framework; of anything else the name of its class."""
    from importlib import import_module

    from ecolyzer_otel.wrap import ModelFacts

    roots = [one.__module__.partition(".")[0] for one in type(model).__mro__]
    for root, package in _DESCRIBERS.items():
        if root in roots:
            with contextlib.suppress(Exception):
                facts: ModelFacts = import_module(package).describe(model)
                return facts
    return ModelFacts(getattr(model, "__qualname__", None) or type(model).__name__)


_uninstrumented = False


def is_uninstrumented() -> bool:
    """Whether nothing is to be patched any more."""
    return _uninstrumented


def instrument() -> None:
    """Patch every supported framework, imported or yet to be imported."""
    global _uninstrumented
    _uninstrumented = False
    activate()
    for one in _instrumentors():
        if not one.is_instrumented_by_opentelemetry:
            one.instrument(skip_dep_check=True)


def uninstrument() -> None:
    """Restore every framework exactly as it was."""
    global _uninstrumented
    _uninstrumented = True
    for one in _instrumentors():
        if one.is_instrumented_by_opentelemetry:
            one.uninstrument()
