"""The route of the web request being served: noted by an instrumentor of a web framework, or read from its span."""

from __future__ import annotations

from contextvars import Token
from typing import Any

from opentelemetry import trace

from ecolyzer_otel.common.attributes import Attr
from ecolyzer_otel.worker.call import Call, server_span

__all__ = ["Route", "note_route", "noted_route", "restore_route", "route_of"]


class Route:
    """The route of a web request, read as its SERVER span would be.

    Attributes:
        attributes: ``http.route`` alone.
        end_time: None; a span has one after the request was served.
    """

    __slots__ = ("attributes", "end_time")

    def __init__(self, template: str) -> None:
        self.attributes = {Attr.HTTP_ROUTE: template or "/"}
        self.end_time = None


def note_route(route: Route) -> Token[Any]:
    """Note that what runs in this context from now on serves a web request of ``route``, until it is restored."""
    return server_span.set(route)


def noted_route() -> Any:
    """What is noted in this context: a :class:`Route`, a SERVER span, or None."""
    return server_span.get()


def restore_route(token: Token[Any]) -> None:
    """Undo :func:`note_route`; nothing in another context than that of the note, where it does not show."""
    try:
        server_span.reset(token)
    except ValueError:
        return


def route_of(call: Call) -> tuple[str, bool]:
    """Returns the ``http.route`` that the call was made for, and whether that is final.

    From the :class:`Route` or SERVER span noted at the call's begin; with a foreign provider from the parent span.
    """
    server = call.server
    if server is None:
        if not call.context:  # an empty context: no parent span
            return "", True
        server = trace.get_current_span(call.context)
    attributes = getattr(server, "attributes", None)
    if not attributes:
        return "", True
    route = attributes.get(Attr.HTTP_ROUTE)
    if isinstance(route, str):
        return route, True
    # Some web frameworks set the route only when they have answered.
    return "", call.server is None or getattr(server, "end_time", None) is not None
