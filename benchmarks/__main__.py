"""Benchmarks of otpqueue. Each starts its own engines, provider and baselines."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path
from types import ModuleType

from benchmarks.harness import report, summary
from benchmarks.harness.options import checkout_options
from benchmarks.harness.stage import Stage

MAIN = {
    "accept": "accept",
    "endtoend": "endtoend",
    "open": "open_loop",
    "verify": "verify",
    "poll": "poll",
    "send": "send",
    "purge": "purge",
    "growth": "growth",
    "pages": "pages",
    "cold": "cold",
    "counts": "counts",
    "costs": "costs",
    "webhooks": "webhooks",
}
"""Benchmarks of whole processes: modules with `add` (options) and `measure`."""

PARTS = {
    "alerts": "alerts",
    "capacity": "capacity",
    "claims": "claims",
    "console": "console",
    "guard": "guard_cost",
    "http": "http",
    "logs": "logs",
    "metrics": "metrics",
    "pumping": "pumping",
    "statistics": "statistics",
}
"""Benchmarks of single parts: modules with a `main` and options of their own."""

ALL = (
    ("counts",),
    ("accept",),
    ("accept", "--new-blocks", "--connections=32", "--processes=2", "--baselines="),
    ("endtoend", "--seconds=60"),
    ("open", "--seconds=30"),
    ("verify",),
    ("poll",),
    ("send",),
    ("costs",),
    ("cold",),
    ("growth",),
    ("pages",),
    ("purge",),
)
"""What the table of docs/performance.md is made of, in this order."""


def main(arguments: list[str]) -> None:
    """Run the benchmark that is asked for."""
    if arguments and arguments[0] in PARTS:
        sys.argv = [f"python -m benchmarks {arguments[0]}", *arguments[1:]]
        importlib.import_module(f"benchmarks.{PARTS[arguments[0]]}").main()
        return
    parser, modules = _parser()
    given = parser.parse_args(arguments)
    runs = [given]
    if given.benchmark == "all":
        shared = [f"--rounds={given.rounds}", *(f"--against={path}" for path in given.against)]
        runs = [parser.parse_args([*one, *shared]) for one in ALL]
    reports = []
    for options in runs:
        found = _run(modules[options.benchmark], options)
        report.show(options.benchmark, found)
        reports.append(report.as_json(options.benchmark, vars(options), found))
        if given.json:  # after each: a long run that is cut short is not lost
            report.write(given.json, reports)
    if given.benchmark == "all":
        print("\n" + summary.table(reports))


def _run(module: ModuleType, given: argparse.Namespace) -> report.Found:
    found: report.Found
    if module.__name__ == "benchmarks.cold":  # has engines of its own
        found = module.measure(given)
    else:
        with Stage(data=getattr(given, "data", None)) as on:
            found = module.measure(on, given)
    return found


def _parser() -> tuple[argparse.ArgumentParser, dict[str, ModuleType]]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"of single parts, with options of their own: {', '.join(PARTS)}",
    )
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    modules = {name: importlib.import_module(f"benchmarks.{module}") for name, module in MAIN.items()}
    for name, module in modules.items():
        about = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=about.splitlines()[0],
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _common(command)
        module.add(command)
    everything = commands.add_parser(
        "all", help="all of these with their defaults, then one table in Markdown"
    )
    _common(everything)
    checkout_options(everything)
    return parser, modules


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rounds", type=int, default=3)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the results to a file")


if __name__ == "__main__":
    # So that engines are stopped and folders removed by `timeout`, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(sys.argv[1:])
