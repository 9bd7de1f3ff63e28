"""``transformers serve`` under the launcher: each answer is one request, with the tokens that the server bills."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port
from support.processes import Program
from support.scrape import get
from support.waiting import AGES, until

from tests.serving.conftest import BIN, Metrics, environment

pytest.importorskip("openai")
sys.path.insert(0, str(Path(__file__).parents[1] / "integrations"))
import tiny

CONTINUOUS = ("--continuous-batching", "--cb-num-blocks", "16", "--cb-max-batch-tokens", "64")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tinychat"
    tiny.causal(folder, "llama")
    tokenizer = tiny.tokenizer(folder, pairs=False)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


def ask(port: int, model: Path, text: str, *, stream: bool) -> dict[str, Any]:
    """The usage that the server tells of one answer."""
    body = {"model": str(model), "messages": [{"role": "user", "content": text}], "max_tokens": 5, "stream": stream}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=AGES) as answer:
        text = answer.read().decode()
    if not stream:
        return json.loads(text)["usage"]  # type: ignore[no-any-return]
    parts = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return next(part["usage"] for part in reversed(parts) if part.get("usage"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("options", [(), CONTINUOUS], ids=["one after the other", "continuous batching"])
def test_answers_are_requests_with_route_tokens_and_phases(model: Path, tmp_path: Path, options: Any) -> None:
    port, meter_port = free_port(), free_port()
    command = [str(BIN / "ecolyzer-instrument"), str(BIN / "transformers"), "serve", *options]
    out = tmp_path / "server.out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=file, stderr=subprocess.STDOUT,
            env=environment(tmp_path, meter_port) | {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    server = Program("the server", process, out)
    try:
        until(lambda: get(f"http://127.0.0.1:{port}/health"), "it answers", server, seconds=AGES, pause=0.2)
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            asked = [
                pool.submit(ask, port, model, "the cat sits " * (1 + index), stream=index % 2 == 0)
                for index in range(6)
            ]
            usages = [one.result() for one in asked]
        until(lambda: Metrics.of(meter_port).settled >= 6, lambda: Metrics.of(meter_port).written)
        metrics = Metrics.of(meter_port)
        labels = 'model="tinychat"', 'operation="generate"', 'route="/v1/chat/completions"'
        assert metrics.settled == metrics.accounted == metrics.total("ecolyzer_requests_total", *labels) == 6
        for kind, key in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            billed = sum(usage[key] for usage in usages)
            assert metrics.total("ecolyzer_tokens_total", f'kind="{kind}"', *labels) == billed > 0
        assert metrics.total("ecolyzer_first_token_seconds_count") == 6
        phases = {
            phase: metrics.total("ecolyzer_phase_energy_joules_total", f'phase="{phase}"')
            for phase in ("prefill", "decode")
        }
        assert min(phases.values()) > 0
        assert sum(phases.values()) <= metrics.total("ecolyzer_energy_joules_total") * (1 + 1e-6)
        metrics.assert_requests_close()
    finally:
        process.terminate()
        process.wait(20)
