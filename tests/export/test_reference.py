from __future__ import annotations

from pathlib import Path

from ecolyzer_otel.common.attributes import Attr
from ecolyzer_otel.common.metrics import METRICS
from ecolyzer_otel.export.reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_is_what_the_declarations_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "run: python -m ecolyzer_otel.export.reference > docs/metrics.md"
    )


def test_every_name_is_on_the_page() -> None:
    page = markdown()
    assert all(f"| `{spec.prometheus_name}` |" in page for spec in METRICS)
    assert all(f"| `{name}` |" in page for key, name in vars(Attr).items() if not key.startswith("_"))
