"""OpenTelemetry instrumentor for Starlette and FastAPI: which web route a request is made for, without spans.

Usage::

    from ecolyzer_starlette import StarletteInstrumentor

    StarletteInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Starlette is patched when it is imported, not imported by us. While
a route handles a web request, a context variable holds its template (``/items/{number}``), prefixed by the path of
the mounts and included routers that it is in. That costs some 1 us, a span of the web framework 100 us and more.
Background tasks and streamed responses run inside, too. Nothing is measured here; the calls that the route makes
are.

Verified with FastAPI 0.165 (Starlette 1.10) and FastAPI 0.115.0 (Starlette 0.38.6).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ecolyzer_otel.instrumentor import FrameworkInstrumentor, Route, note_route, noted_route, restore_route

__all__ = ["StarletteInstrumentor"]


class Place(Route):
    """The route, or the mount, that handles a web request."""

    __slots__ = ("mount", "path", "prefix")

    def __init__(self, prefix: str, path: str, mount: bool) -> None:
        super().__init__(prefix + path)
        self.prefix, self.path, self.mount = prefix, path, mount


#: One per route of the application.
_place: Final = lru_cache(maxsize=4096)(Place)


def _enter(route: Any, scope: Any, mount: bool) -> Any:
    """Note that ``route`` handles the request; returns the token that undoes it, None where it is noted already."""
    path = _template(route, scope)
    above = noted_route()
    prefix = ""
    if type(above) is Place:
        if above.mount:
            prefix = above.prefix + above.path
        elif above.path == path:
            return None  # FastAPI's route calls the method that it inherits
    return note_route(_place(prefix, path, mount))


def _template(route: Any, scope: Any) -> str:
    """Returns the path of a route as it was declared, with that of the routers that include it."""
    # From FastAPI 0.137 on a route does not have these; its context in the scope does.
    included = scope.get("fastapi")
    if included:
        context = included.get("effective_route_context")
        if context is not None and context.original_route is route:
            return str(context.path_format)
    path: str = route.path_format
    # That of a mount ends in a placeholder for the rest, which the application below handles.
    return path.removesuffix("/{path}") if path.endswith("/{path}") and hasattr(route, "routes") else path


def _noting(original: Any, mount: bool) -> Any:
    @functools.wraps(original)
    async def handle(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
        token = None
        with contextlib.suppress(Exception):  # another kind of route: no template, but never a wrong one
            token = _enter(self, scope, mount)
        if token is None:
            return await original(self, scope, *args, **kwargs)
        try:
            return await original(self, scope, *args, **kwargs)
        finally:
            restore_route(token)

    return handle


class StarletteInstrumentor(FrameworkInstrumentor):
    """Patches how Starlette's routes, and FastAPI's, handle a web request."""

    def hooks(self) -> Mapping[str, Callable[[Any], None]]:
        """See :class:`~ecolyzer_otel.instrumentor.FrameworkInstrumentor`."""
        return {"starlette.routing": self._patch, "fastapi.routing": self._patch}

    def _patch(self, module: Any) -> None:
        for name in ("Route", "WebSocketRoute", "Mount", "APIRoute", "APIWebSocketRoute"):
            kind = getattr(module, name, None)
            # A class is patched in the module that defines it, and only if it defines the method itself.
            if kind is not None and kind.__module__ == module.__name__ and "handle" in vars(kind):
                self.wrap(kind, "handle", _noting, mount=name == "Mount")
