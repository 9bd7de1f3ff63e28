"""A loopback server and live grids that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from live_server import CASES, Answer, Case, Server

from ecolyzer_otel.impact.live.refresh import LiveGrid


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(lambda asked: Answer(status=500))
    yield server
    server.close()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def run(server: Server) -> Iterator[Callable[..., LiveGrid]]:
    """``run(case, **options)``: a started grid against ``server``, with what it said in ``grid.said``."""
    grids: list[LiveGrid] = []
    said: dict[int, list[str]] = {}

    def begin(case: Case, **options: Any) -> tuple[LiveGrid, list[str]]:
        grid = case.open(server.url, **options)
        lines: list[str] = []
        grid.on_problem = lines.append
        said[id(grid)] = lines
        grids.append(grid)
        grid.start()
        return grid, lines

    yield begin
    for grid in grids:
        grid.close(0.0)
