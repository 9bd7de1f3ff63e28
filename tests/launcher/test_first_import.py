"""A framework that is the first thing a script imports beside the standard library is patched like any other."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .conftest import LAUNCHER

SCRIPT = """
import {module}
import json, os
from ecolyzer_otel.runtime import _instrumentors
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
    done = subprocess.run(
        [LAUNCHER, "--port", "0", "--cloud-metadata", "off", sys.executable, "-c", SCRIPT.format(module=module)],
        capture_output=True, text=True, timeout=110, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])[FRAMEWORKS[module]] > 0
