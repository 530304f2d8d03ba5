"""Options that several benchmarks share, and the contestants that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.harness import numbers, report
from benchmarks.harness.stage import ROOT, Baseline, Otpqueue


def common(parser: argparse.ArgumentParser, *, seconds: float = 10, connections: str = "32") -> None:
    """Add the options that every benchmark under load has."""
    parser.add_argument("--seconds", type=float, default=seconds, help="measured time of each case and round")
    parser.add_argument(
        "--connections", type=integers, default=connections, metavar="N,N", help="requests in flight"
    )
    parser.add_argument(
        "--processes", type=integers, default="2", metavar="N,N", help="API processes; 0: the default of each"
    )
    checkout_options(parser)
    parser.add_argument("--latency-ms", type=float, default=100, help="how long the provider takes to send")
    parser.add_argument(
        "--new-blocks", action="store_true", help="each number in a block of numbers never seen before"
    )


def checkout_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which checkouts take part, and how they are set up."""
    parser.add_argument(
        "--against",
        type=_checkout,
        action="append",
        default=[],
        metavar="PATH",
        help="another checkout of otpqueue that takes part, with its own .venv; may be repeated",
    )
    parser.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of otpqueue for all checkouts; may be repeated",
    )


def history_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how many ended requests the tables have, and where they are kept."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="ended requests of the largest database")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="keep the filled databases in this folder, and use those that an earlier run has left there",
    )


def checkouts(given: argparse.Namespace, *, processes: int | None = None) -> list[Otpqueue]:
    """Return this checkout and those to compare it with."""
    settings = dict(given.set)
    paths = [ROOT, *given.against]
    names = ["otpqueue"] + [path.name for path in given.against]
    made = [
        Otpqueue(name=name, checkout=path, settings=settings) for name, path in zip(names, paths, strict=True)
    ]
    return [replace(one, processes=processes) if processes else one for one in made]


def cases(
    given: argparse.Namespace, measure: Callable[[Otpqueue, int], report.Measured]
) -> dict[str, Callable[[], report.Measured]]:
    """Return what measures each checkout at each number of processes and connections, by name."""
    return {
        f"{ours.name}, {processes or 'default'} proc., {connections} conn.": partial(
            measure, ours, connections
        )
        for processes in given.processes
        for ours in checkouts(given, processes=processes)
        for connections in given.connections
    }


def baselines(given: argparse.Namespace, *names: str) -> list[Baseline]:
    """Return the baselines, each at the number of threads that serves it best."""
    known = {
        "direct": Baseline("direct", "direct", threads=256),
        "ordinary": Baseline("ordinary", "ordinary", threads=32),
    }
    wanted = getattr(given, "baselines", names)
    return [known[name] for name in names if name in wanted]


def fresh_numbers(given: argparse.Namespace) -> Iterator[str]:
    """Return an endless source of numbers for one turn."""
    return numbers.new_blocks() if given.new_blocks else numbers.ordinary()


def baseline_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that says which baselines take part."""
    parser.add_argument(
        "--baselines",
        type=lambda text: [one for one in text.split(",") if one],
        default=default,
        metavar="NAME,NAME",
        help="direct, ordinary, or nothing",
    )


def integers(text: str) -> list[int]:
    """Return what `1,32` says."""
    return [int(one) for one in text.split(",")]


def _checkout(text: str) -> Path:
    path = Path(text).resolve()
    if not (path / "otpqueue").is_dir():
        raise argparse.ArgumentTypeError(f"{path} is no checkout of otpqueue")
    return path


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("give NAME=VALUE")
    return name, value
