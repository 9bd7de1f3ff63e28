"""A service as WSGI and as ASGI application, unchanged by and unaware of what measures it.

``GET /`` makes one prediction and answers with the PID of the worker.
"""

import os

from model import predict


def wsgi(environ, start_response):
    predict()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    predict()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
