"""Forward passes of training are no requests, unless they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from ecolyzer_otel.worker import training
from ecolyzer_torch import TorchInstrumentor, learning


@pytest.fixture(autouse=True)
def _patched(instrumented: Callable[[Any], Any]) -> Iterator[None]:
    instrumented(TorchInstrumentor())
    yield
    learning.reset()


def kinds(calls: Any) -> list[str]:
    """What each finished call is taken for, once its time of doubt is over."""
    return [
        "training" if call.details is not None and call.details.training else "request" for call in calls.take()
    ]


def test_a_loop_with_an_optimizer_is_training_from_its_first_pass(calls: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert calls.take() == []


def test_evaluation_in_a_training_process_is_a_request(calls: Any) -> None:
    net = nn.Linear(4, 4)
    torch.optim.SGD(net.parameters(), 0.1)
    net.eval()
    with torch.no_grad():
        net(torch.ones(2, 4))
    net.train()
    with torch.inference_mode():
        net(torch.ones(2, 4))
    assert kinds(calls) == ["request", "request"]


def test_what_goes_backward_without_an_optimizer_was_training_too(calls: Any) -> None:
    net = nn.Linear(4, 4)
    loss = net(torch.ones(2, 4)).sum() + nn.Linear(4, 4)(torch.ones(2, 4)).sum()
    loss.backward()
    assert kinds(calls) == ["training", "training"]
    net(torch.ones(2, 4))
    assert calls.take() == [], "known from now on"


def test_a_service_that_forgot_eval_is_measured(calls: Any) -> None:
    net = nn.Linear(4, 4)
    assert net.training
    for _ in range(3):
        net(torch.ones(2, 4))
    assert kinds(calls) == ["request"] * 3


def test_explaining_a_prediction_of_a_model_in_evaluation_mode_makes_it_no_training(calls: Any) -> None:
    net, given = nn.Linear(4, 4).eval(), torch.ones(2, 4, requires_grad=True)
    net(given).sum().backward()
    assert kinds(calls) == ["request"]


def test_training_counts_when_it_is_asked_for(calls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_counts", True)
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(3):
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert kinds(calls) == ["request"] * 3
