"""Pages of metrics."""

from __future__ import annotations

import urllib.request
from functools import cached_property

from prometheus_client.parser import text_string_to_metric_families as parse_classic
from prometheus_client.samples import Sample

from .waiting import PATIENCE


def get(url: str, accept: str = "text/plain") -> str:
    """The text of a page."""
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


class Scrape:
    """One look at ``/metrics``, in the classic format."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    @cached_property
    def written(self) -> dict[str, float]:
        """Values by name and labels as they are written."""
        lines = (line for line in self.text.splitlines() if not line.startswith("#"))
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}

    @cached_property
    def samples(self) -> list[Sample]:
        """Samples with their labels apart."""
        return [sample for family in parse_classic(self.text) for sample in family.samples]

    def find(self, name: str, **labels: str) -> list[Sample]:
        return [one for one in self.samples if one.name == name and labels.items() <= one.labels.items()]

    def total(self, name: str, *parts: str, **labels: str) -> float:
        """The sum of the samples with these labels, or of those that hold each part as it is written."""
        if labels:
            assert not parts, "labels or parts"
            return sum(one.value for one in self.find(name, **labels))
        found = self.written.items()
        return sum(v for k, v in found if k.partition("{")[0] == name and all(part in k for part in parts))
