"""The public ``start`` and ``stop``: measure in this process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ecolyzer_otel.boot.in_process import own_meter, running
from ecolyzer_otel.boot.instrumentors import instrument, uninstrument
from ecolyzer_otel.common.config import Config, load
from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.worker.model_names import use_rules
from ecolyzer_otel.worker.state import replace_state, state
from ecolyzer_otel.worker.training import count_training

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

__all__ = ["Running", "start", "stop"]


@dataclass(frozen=True, slots=True)
class Running:
    """The result of :func:`start`: the address of /metrics, the start line, and the problems found."""

    url: str | None
    line: str
    problems: tuple[str, ...]


def start(*, meter_provider: MeterProvider | None = None, config: Config | None = None, **options: Any) -> Running:
    """Start measuring in this process: the meter as a thread, every supported framework patched.

    Args:
        meter_provider: an OpenTelemetry MeterProvider of the application, into which the same metrics are also
            recorded under the same names.
        config: the settings; default: environment, file, defaults.
        **options: single settings by name (``zone="FR"``, ``port=0``), over ``config``.

    Returns:
        Where ``/metrics`` is served, which sensors measure what, and the problems found (also logged).

    Raises:
        ConfigError: an option is unknown or its value cannot be used.
        RuntimeError: measuring runs already; :func:`stop` it first.
    """
    if running.alive:
        raise RuntimeError("ecolyzer_otel is started already; stop() it first")
    settings = _settings(config, options)
    count_training(settings.count_training)
    use_rules(settings.model_names)
    here = replace_state(own_meter)
    here.started = True  # started here, not by the first request
    try:
        setup = running.begin(settings, meter_provider, here)
    except Exception:
        replace_state(None)
        raise
    instrument()
    return Running(setup.metrics_url, setup.line(), tuple(str(problem) for problem in setup.problems))


def _settings(config: Config | None, options: dict[str, Any]) -> Config:
    if config is not None:
        # Checked by the same rules as texts: a value of the right type reads back as itself.
        loaded = load({name: str(value) for name, value in options.items() if value is not None}, environ={})
        given = {name: getattr(loaded.config, name) for name in options if hasattr(loaded.config, name)}
        settings = replace(config, **given)
    else:
        loaded = load({name: str(value) for name, value in options.items() if value is not None})
        settings = loaded.config
    unknown = [name for name in options if not hasattr(settings, name)]
    if unknown:
        raise ConfigError(unknown[0], "is not an option", "see ecolyzer-instrument --help")
    for problem in loaded.problems:
        raise problem
    return settings


def stop(timeout: float = 5.0) -> None:
    """Settle finished requests, restore every framework, end the meter. Does nothing where none runs."""
    uninstrument()
    worker = state().worker
    replace_state(None)
    if worker is not None:
        worker.stop(timeout)
    if running.alive:
        running.end(timeout)
