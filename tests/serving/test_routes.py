"""The route of each request, also where the web server mixes up their contexts."""

from __future__ import annotations

import http.client

import pytest


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
@pytest.mark.parametrize("size", [1_000, 200_000])
def test_requests_of_one_connection_have_routes_of_their_own(serve, size, sampler):
    server = ["uvicorn", "web:app", "--host", "127.0.0.1", "--port", "PORT", "--http", "h11", "--loop", "asyncio"]
    service = serve(server, env={"OTEL_TRACES_SAMPLER": sampler})
    sent = service.wait_until_up()
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=60)
    for number in range(5):
        for path, body in ((f"/upload/{number}", b"x" * size), (f"/ask/{number}", b"x")):
            connection.request("POST", path, body)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (200, b"1")
    connection.close()
    metrics = service.settled(sent + 10)
    for route in ("/upload/{name}", "/ask/{name}"):
        assert metrics.total("ecolyzer_requests_total", f'route="{route}"') == 5
