"""A framework that is the first thing a script imports beside the standard library is patched like any other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from support.waiting import AGES

from .conftest import LAUNCHER

SCRIPT = """
import {module}
import json, os
from ecolyzer_otel.boot.instrumentors import instrumentors as _instrumentors
found = {{type(one).__name__: len(one.patches._undo) for one in _instrumentors()}}
print(json.dumps(found))
"""
FRAMEWORKS = {
    "torch": "TorchInstrumentor",
    "xgboost": "XGBoostInstrumentor",
    "lightgbm": "LightGBMInstrumentor",
    "sklearn.ensemble": "SklearnInstrumentor",
    "onnxruntime": "OnnxRuntimeInstrumentor",
    "keras": "KerasInstrumentor",
    "tensorflow": "TensorFlowInstrumentor",
    "sentence_transformers": "SentenceTransformersInstrumentor",
}


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_a_framework_that_is_imported_first_is_patched(module, tmp_path):
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{module} is not installed here; make test installs it")
    done = run(SCRIPT.format(module=module), tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])[FRAMEWORKS[module]] > 0


def test_what_is_hooked_is_what_the_instrumentors_patch():
    """The table that spares a process the instrumentors of what it never imports."""
    from importlib.metadata import entry_points

    from ecolyzer_otel.boot.auto_instrumentation import HOOKED

    ours = [one for one in entry_points(group="opentelemetry_instrumentor") if one.name.startswith("ecolyzer_")]
    assert {one.name: tuple(sorted(one.load()().hooks())) for one in ours} == HOOKED


def run(code: str, tmp_path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [LAUNCHER, "--port", "0", "--cloud-metadata", "off", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=AGES, cwd=tmp_path, env=os.environ | env,
    )  # fmt: skip


def test_a_process_loads_nothing_for_frameworks_that_it_does_not_use(tmp_path):
    code = (
        "import sklearn, sys; print(sorted(m for m in sys.modules if m.startswith('ecolyzer_') and '.' not in m))"
    )
    done = run(code, tmp_path)
    assert done.stdout.strip() == "['ecolyzer_otel', 'ecolyzer_sklearn']", done.stderr
    code = "import numpy, sys; print([m for m in sys.modules if m.startswith('opentelemetry.instrumentation.')])"
    assert run(code, tmp_path).stdout.strip() == "['opentelemetry.instrumentation.version']"


def test_instrumentors_can_be_disabled_by_name_and_a_framework_is_left_alone_after_uninstrument(tmp_path):
    tell = "from sklearn.base import ClassifierMixin as c; import sklearn.linear_model as m; "
    tell += "print(hasattr(m.LogisticRegression.predict, '__wrapped__'))"
    assert run(tell, tmp_path).stdout.strip() == "True"
    for off in ("ecolyzer_sklearn", "ecolyzer_torch, ecolyzer_sklearn", "*"):
        assert run(tell, tmp_path, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=off).stdout.strip() == "False"
    assert run("import ecolyzer_otel; ecolyzer_otel.uninstrument()\n" + tell, tmp_path).stdout.strip() == "False"
    again = "import ecolyzer_otel; ecolyzer_otel.uninstrument(); ecolyzer_otel.instrument()\n"
    done = run(again + tell, tmp_path)
    assert (done.stdout.strip(), "already" in done.stderr) == ("True", False), done.stderr


def test_another_distro_is_left_to_opentelemetry(tmp_path):
    done = run("import msgspec, sys; print('opentelemetry.instrumentation.auto_instrumentation' in sys.modules)",
               tmp_path, OTEL_PYTHON_DISTRO="another")  # fmt: skip
    assert done.stdout.strip() == "True", done.stderr
