"""Run cases in interleaved rounds; print medians with their spread, or write them as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

Measured = Mapping[str, float]
"""Results of a case in one round: metric -> value. Those that begin with `cpu ` are in ms per operation."""

Cases = Mapping[str, Callable[[], Measured]]
Found = dict[str, list[Measured]]


def run(cases: Cases, *, rounds: int) -> Found:
    """Measure every case once per round, in the same order, and return the results."""
    found: Found = {name: [] for name in cases}
    for turn in range(1, rounds + 1):
        for name, measure in cases.items():
            measured = measure()
            found[name].append(measured)
            said = "  ".join(f"{metric} {_short(value)}" for metric, value in measured.items())
            print(f"round {turn}  {name}: {said}", file=sys.stderr, flush=True)
    return found


def show(title: str, found: Found) -> None:
    """Print a table: for each case a line of medians, and below it minimum and maximum of its rounds."""
    metrics = list(dict.fromkeys(metric for rounds in found.values() for one in rounds for metric in one))
    width = max([len(name) for name in found] + [len(title)]) + 2
    widths = [max(len(metric), 13) + 2 for metric in metrics]
    print()
    print(
        title.ljust(width) + "".join(metric.rjust(size) for metric, size in zip(metrics, widths, strict=True))
    )
    for name, rounds in found.items():
        columns = [[one[metric] for one in rounds if metric in one] for metric in metrics]
        lines = ((name, _median), ("", _spread)) if len(rounds) > 1 else ((name, _median),)
        for label, cell in lines:
            cells = (cell(values).rjust(size) for values, size in zip(columns, widths, strict=True))
            print(label.ljust(width) + "".join(cells))


def as_json(command: str, arguments: Mapping[str, object], found: Found) -> dict[str, object]:
    """Return the results as JSON values."""
    return {
        "benchmark": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": sys.version.split()[0]},
        "arguments": {name: value for name, value in arguments.items() if _plain(value)},
        "rounds": {name: [dict(one) for one in rounds] for name, rounds in found.items()},
        "medians": {
            name: {
                metric: statistics.median(one[metric] for one in rounds if metric in one)
                for metric in dict.fromkeys(metric for one in rounds for metric in one)
            }
            for name, rounds in found.items()
        },
    }


def write(path: Path, reports: list[dict[str, object]]) -> None:
    """Write reports to a file."""
    path.write_text(json.dumps(reports, indent=2) + "\n")


def cpu_ms(used: Mapping[str, float], count: float) -> dict[str, float]:
    """Return the CPU of each process per operation, in ms; processes of one kind are added up."""
    found: dict[str, float] = {}
    for name, seconds in used.items():
        label = f"cpu {name.split()[0]}"
        found[label] = found.get(label, 0) + (seconds * 1000 / count if count else math.nan)
    return found


def _plain(value: object) -> bool:
    return isinstance(value, str | int | float | bool | list) or value is None


def _median(values: list[float]) -> str:
    return _short(statistics.median(values)) if values else ""


def _spread(values: list[float]) -> str:
    return f"{_short(min(values))}..{_short(max(values))}" if values else ""


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
