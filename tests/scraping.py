"""Pages of metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scraped:
    """A page: its samples by name and labels, and the kinds of its families by name."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    kinds: Mapping[str, str]

    def __call__(self, metric: str, /, **labels: str) -> float:
        """Return the sum of the samples of this name that have these labels."""
        wanted = labels.items()
        return sum(value for (found, has), value in self.samples.items() if found == metric and wanted <= has)

    def has(self, name: str) -> bool:
        """Return whether there is a sample of this name."""
        return any(found == name for found, _ in self.samples)

    def labels(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {dict(has)[label] for found, has in self.samples if found == name}


def scraped(text: str) -> Scraped:
    """Read a page. Fails on one that Prometheus would not take."""
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    kinds: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name not in kinds, f"{name} is there twice"
        kinds[name] = family.type
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    return Scraped(samples, kinds)
