"""OpenTelemetry instrumentor for Starlette and FastAPI: which web route a request is made for, without spans.

Usage::

    from ecolyzer_starlette import StarletteInstrumentor

    StarletteInstrumentor().instrument()

or nothing at all under ``ecolyzer-instrument``. Starlette is patched when it is imported, not imported by us.
While a route handles a web request, a context variable holds its template (``/items/{number}``), below the path of
the mounts and included routers that it is in: some 1 us, where the span of the web framework costs 100 us and
more. Background tasks and streamed answers run inside, too. Nothing is measured here: what the route runs is.

Verified with FastAPI 0.165 (Starlette 1.10) and FastAPI 0.115.0 (Starlette 0.38.6).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from ecolyzer_otel.instrumentor import Attr, FrameworkInstrumentor, note_route, noted_route, restore_route

__all__ = ["StarletteInstrumentor"]


class Place:
    """Where a web request is: in a route, or below a mount. Looks like a span with a route, as far as is asked."""

    __slots__ = ("attributes", "end_time", "mount", "path", "prefix")

    def __init__(self, prefix: str, path: str, mount: bool) -> None:
        self.prefix, self.path, self.mount = prefix, path, mount
        self.attributes = {Attr.HTTP_ROUTE: prefix + path or "/"}
        self.end_time = None


#: There are as many as an application has routes.
_place: Final = lru_cache(maxsize=4096)(Place)


def _enter(route: Any, scope: Any, mount: bool) -> Any:
    """Note that ``route`` handles the request from now on; what undoes that, None where it is noted already."""
    path = _template(route, scope)
    above = noted_route()
    prefix = ""
    if type(above) is Place:
        if above.mount:
            prefix = above.prefix + above.path
        elif above.path == path:
            return None  # FastAPI's route has handed over to the method that it inherits
    return note_route(_place(prefix, path, mount))


def _template(route: Any, scope: Any) -> str:
    """The path of a route as it was declared, with that of the routers that include it."""
    # From FastAPI 0.137 on a route does not know these; what does lies in the scope, under names of its own.
    included = scope.get("fastapi")
    if included:
        context = included.get("effective_route_context")
        if context is not None and context.original_route is route:
            return str(context.path_format)
    path: str = route.path_format
    # Of a mount it ends in what is left to the application below it.
    return path.removesuffix("/{path}") if path.endswith("/{path}") and hasattr(route, "routes") else path


def _noting(original: Any, mount: bool) -> Any:
    @functools.wraps(original)
    async def handle(self: Any, scope: Any, *args: Any, **kwargs: Any) -> Any:
        token = None
        with contextlib.suppress(Exception):  # another router's idea of a route: not known, never wrong
            token = _enter(self, scope, mount)
        if token is None:
            return await original(self, scope, *args, **kwargs)
        try:
            return await original(self, scope, *args, **kwargs)
        finally:
            with contextlib.suppress(ValueError):  # left in another context than it was entered in
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
            # What is inherited, or only imported there, is patched where it is from.
            if kind is not None and kind.__module__ == module.__name__ and "handle" in vars(kind):
                self.patches.replace(kind, "handle", _noting(kind.handle, mount=name == "Mount"))
