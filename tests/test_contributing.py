"""The instrumentor of CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from measured import Scrape, recording

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
#: The framework that it is for.
ACME = """
__version__ = "1.2"
class Engine:
    name = "rocket"
    def parameter_count(self): return 42
    def fit(self, batch): return self.infer(batch)
    def infer(self, batch): return [sum(row) for row in batch]
"""
SERVICE = """
import sys, time, urllib.request
import ecolyzer_otel
import acme
def page():
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10) as answer:
        return answer.read().decode()
def first_reading():
    try:
        return "ecolyzer_sensor_last_sample_timestamp_seconds{" in page()
    except OSError:
        return False
while not first_reading():  # what ends before it has no joules
    time.sleep(0.1)
engine = acme.Engine()
engine.fit([[1, 2]])
assert engine.infer([[1, 2], [3, 4]]) == [3, 7]
assert ecolyzer_otel.flush(60)
print(ecolyzer_otel.counts())
print(page())
"""


def blocks(language: str) -> list[str]:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_instrumentor_of_the_guide_counts_requests(tmp_path: Path) -> None:
    (code,), (entry_points,) = blocks("python"), blocks("toml")
    name, target = re.findall(r'^(\w+) = "(.+)"$', entry_points, flags=re.MULTILINE)[0]
    (tmp_path / "acme.py").write_text(ACME)
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(code)
    installed = tmp_path / f"{name}-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{name} = {target}\n")
    (tmp_path / "serve.py").write_text(SERVICE)
    port = free_port()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ECOLYZER_", "OTEL_"))}
    options = [
        "--sensors",
        f"replay:{recording(tmp_path / 'recorded.json')}",
        "--port",
        port,
        "--agent-socket",
        "none",
    ]
    done = subprocess.run(
        [BIN / "ecolyzer-instrument", *options, sys.executable, tmp_path / "serve.py", port],
        env=clean | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts, _, page = done.stdout.partition("\n")
    assert "'served': 1" in counts, "fit is training, not a request"
    (sample,) = Scrape(page).find("ecolyzer_requests_total")
    assert (sample.labels["model"], sample.labels["operation"], sample.value) == ("rocket", "infer", 1.0)
    assert Scrape(page).total("ecolyzer_model_parameters", model="rocket") == 42
    assert Scrape(page).total("ecolyzer_items_total", model="rocket") == 2


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
