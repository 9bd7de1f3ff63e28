"""Routes of web requests without spans: mounts, included routers, websockets, streams, background tasks."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from ecolyzer_otel.worker.call import server_span
from ecolyzer_otel.worker.web_route import route_of
from ecolyzer_starlette import StarletteInstrumentor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(autouse=True)
def instrumented():
    instrumentor = StarletteInstrumentor()
    instrumentor.instrument(skip_dep_check=True)
    yield
    instrumentor.uninstrument()


class _Call:
    context = None

    def __init__(self) -> None:
        self.server = server_span.get()


def here() -> str:
    """The route that a request of a model would be counted for at this moment; "?" where it is not final."""
    route, final = route_of(_Call())
    return route if final else "?"


async def ask(app, path: str) -> str:
    """The answer of an application, asked in this very task."""
    body = b""

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        nonlocal body
        body += message.get("body", b"")

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return body.decode()


def fastapi() -> tuple[FastAPI, list[str]]:
    app, below, inner, outer, seen = FastAPI(), FastAPI(), APIRouter(), APIRouter(prefix="/v1"), []

    @app.get("/")
    def root():
        return here()

    @app.get("/items/{number}")
    def item(number: int):
        return here()

    @app.get("/files/{path:path}")
    async def file(path: str):
        return here()

    @inner.post("/ask/{name}")
    async def ask(name: str):
        return here()

    @below.get("/items/{number}")
    async def item_below(number: int):
        return here()

    @app.get("/stream")
    def stream():
        def parts():
            yield here()

        return StreamingResponse(parts())

    @app.get("/later")
    def later(tasks: BackgroundTasks):
        tasks.add_task(lambda: seen.append(here()))
        return here()

    @app.get("/fails")
    def fails():
        seen.append(here())
        raise RuntimeError("by intent")

    @app.websocket("/socket/{name}")
    async def socket(socket: WebSocket, name: str):
        await socket.accept()
        await socket.send_text(here())
        await socket.close()

    outer.include_router(inner, prefix="/{tenant}")
    app.include_router(outer)
    app.mount("/below/{tenant}", below)
    return app, seen


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/items/3", "/items/{number}"),
        ("/files/a/b", "/files/{path}"),
        ("/below/acme/items/3", "/below/{tenant}/items/{number}"),
    ],
)
def test_a_route_is_what_was_declared(path, route):
    app, _ = fastapi()
    assert TestClient(app).get(path).json() == route
    assert here() == "", "nothing is left of it afterwards"


def test_of_included_routers_the_prefixes_are_part_of_it():
    assert TestClient(fastapi()[0]).post("/v1/acme/ask/me").json() == "/v1/{tenant}/ask/{name}"


def test_streams_background_tasks_failures_and_websockets():
    app, seen = fastapi()
    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/stream").text == "/stream"
    assert client.get("/later").json() == "/later"
    assert client.get("/fails").status_code == 500
    assert seen == ["/later", "/fails"]
    with client.websocket_connect("/socket/me") as socket:
        assert socket.receive_text() == "/socket/{name}"
    assert client.get("/nowhere").status_code == 404
    assert client.post("/items/3").status_code == 405


def test_starlette_by_itself():
    async def answer(request):
        return PlainTextResponse(here())

    async def socket(socket):
        await socket.accept()
        await socket.send_text(here())
        await socket.close()

    inner = [Route("/a/{x}", answer), WebSocketRoute("/ws", socket)]
    client = TestClient(
        Starlette(routes=[Mount("/one", routes=[Mount("/two", routes=inner)]), Mount("", routes=inner)])
    )
    assert client.get("/one/two/a/1").text == "/one/two/a/{x}"
    assert client.get("/a/1").text == "/a/{x}"
    with client.websocket_connect("/one/two/ws") as connected:
        assert connected.receive_text() == "/one/two/ws"


def test_an_application_that_is_asked_within_a_request_does_not_change_its_route():
    inner, outer, seen = FastAPI(), FastAPI(), []

    @inner.get("/inner")
    async def within():
        seen.append(here())

    @outer.get("/outer")
    async def around():
        await ask(inner, "/inner")
        return here()

    assert TestClient(outer).get("/outer").json() == "/outer"
    assert seen == ["/inner"]


def test_requests_at_the_same_time_have_their_own():
    app = FastAPI()

    @app.get("/{name}/slow")
    async def slow(name: str):
        await asyncio.sleep(0.05)
        return here()

    @app.get("/quick/{name}")
    async def quick(name: str):
        return here()

    async def both():
        return await asyncio.gather(*(ask(app, path) for path in ("/a/slow", "/quick/b", "/c/slow")))

    assert asyncio.run(both()) == ['"/{name}/slow"', '"/quick/{name}"', '"/{name}/slow"']


def test_uninstrumenting_puts_everything_back():
    StarletteInstrumentor().uninstrument()
    assert TestClient(fastapi()[0]).get("/items/3").json() == ""
    for kind in (Route, WebSocketRoute, Mount):
        assert not hasattr(kind.handle, "__wrapped__")
