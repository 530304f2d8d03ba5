"""Run a benchmark: `python -m benchmarks NAME`, or all of those that the documentation's figures are from."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks import cold, report
from benchmarks.stage import Stage

LOAD = {
    "accept": "accept",
    "endtoend": "endtoend",
    "open": "open_loop",
    "verify": "verify",
    "poll": "poll",
    "send": "send",
    "purge": "purge",
    "growth": "growth",
    "cold": "cold",
    "counts": "counts",
}
"""Benchmarks of whole processes, by name: the modules with `add` and `measure`."""


def main(arguments: list[str]) -> None:
    """Run the benchmark that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="NAME")
    modules = {name: importlib.import_module(f"benchmarks.{module}") for name, module in LOAD.items()}
    for name, module in modules.items():
        about = (module.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=about.splitlines()[0],
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--json", type=Path, metavar="FILE", help="write what was found to a file, too")
        module.add(command)
    given = parser.parse_args(arguments)
    module = modules[given.benchmark]
    if module is cold:  # has engines of its own
        found = cold.measure(given)
    else:
        with Stage() as on:
            found = module.measure(on, given)
    report.show(given.benchmark, found)
    if given.json:
        report.write(given.json, [report.as_json(given.benchmark, vars(given), found)])


if __name__ == "__main__":
    main(sys.argv[1:])
