"""Which meter this process reports to, and the public ``start``, ``stop`` and ``flush``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ecolyzer_otel.agent.exits import chain_sigterm, register
from ecolyzer_otel.config import Config, load
from ecolyzer_otel.request import State, replace_state, state

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from ecolyzer_otel.agent.worker import Worker
    from ecolyzer_otel.assembly import Setup

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
        if config.exit_flush:
            chain_sigterm()


def make_ready() -> None:
    """Do now, while a framework is being patched, what the first request would otherwise wait for."""
    from ecolyzer_otel.telemetry import provider

    provider.ensure()
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
    """The meter that runs as a thread of this process."""

    def __init__(self) -> None:
        self.setup: Setup | None = None
        self._thread: threading.Thread | None = None
        self._poke = threading.Event()
        self._disconnect: Callable[[], None] | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        return self.setup is not None and self._pid == os.getpid()

    def begin(self, config: Config, meter_provider: MeterProvider | None, here: State) -> Setup:
        from ecolyzer_otel.agent.link import LocalLink
        from ecolyzer_otel.assembly import prepare

        setup = prepare(config, alone=True)
        if meter_provider is not None:
            from ecolyzer_otel.telemetry.bridge import bridge

            try:
                self._disconnect = bridge(setup.meter.store, meter_provider)
            except Exception:
                setup.close()
                raise
        setup.meter.poke = self._poke.set
        self.setup, self._pid = setup, os.getpid()
        for problem in setup.problems:
            _LOG.warning("ecolyzer: %s", problem)
        self._thread = threading.Thread(target=self._run, args=(setup,), name="ecolyzer-meter", daemon=True)
        self._thread.start()
        _begin_worker(here, LocalLink(setup.meter), config)
        return setup

    def _run(self, setup: Setup) -> None:
        while not setup.meter.stopped:
            try:
                delay = setup.meter.tick()
            except Exception:  # noqa: BLE001 - the meter must not end for one bad reading
                _LOG.warning("ecolyzer: the meter met an error and goes on", exc_info=True)
                delay = 1.0
            self._poke.wait(delay)
            self._poke.clear()

    def end(self, timeout: float) -> None:
        setup, self.setup = self.setup, None
        if setup is None:
            return
        setup.close()
        self._poke.set()
        if self._thread is not None:
            self._thread.join(timeout)
        if self._disconnect is not None:
            self._disconnect()
            self._disconnect = None


_running = _InProcess()


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


def instrument() -> None:
    """Patch every supported framework, imported or yet to be imported."""
    activate()
    for one in _instrumentors():
        if not one.is_instrumented_by_opentelemetry:
            one.instrument(skip_dep_check=True)


def uninstrument() -> None:
    """Restore every framework exactly as it was."""
    for one in _instrumentors():
        if one.is_instrumented_by_opentelemetry:
            one.uninstrument()
