"""`otpqueue dev`: time to ready, cold and warm; memory (PSS) and CPU of all its processes while idle."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import cpu, options, report
from benchmarks.harness.stage import Otpqueue, clean_environment

_READY_S = 120
_SETTLE_S = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.checkout_options(parser)
    parser.add_argument("--seconds", type=float, default=30, help="how long idle CPU is measured")


def measure(given: argparse.Namespace) -> report.Found:
    """Measure all checkouts."""
    cases = {ours.name: partial(_cold, ours, given.seconds) for ours in options.checkouts(given)}
    return report.run(cases, rounds=given.rounds)


def _cold(ours: Otpqueue, seconds: float) -> report.Measured:
    with tempfile.TemporaryDirectory(prefix="otpqueue-cold-") as name:
        folder = Path(name)
        process, cold_s = _start(ours, folder)
        _stop(process)
        process, warm_s = _start(ours, folder)
        try:
            time.sleep(_SETTLE_S)
            pids = json.loads((folder / ".otpqueue" / "dev.json").read_text())["pids"]
            sizes = cpu.pss_bytes(process.pid)
            parts = _by_part(sizes, pids, process.pid)
            before = cpu.seconds(process.pid)
            time.sleep(seconds)
            idle = (cpu.seconds(process.pid) - before) / seconds
        finally:
            begin = time.monotonic()
            _stop(process)
        found = {"cold s": cold_s, "warm s": warm_s, "stop s": time.monotonic() - begin}
        found |= {"PSS MB": sum(sizes.values()) / 1e6, "idle CPU %": idle * 100}
        return found | parts


def _by_part(sizes: dict[int, int], pids: dict[str, int | None], supervisor: int) -> dict[str, float]:
    """Return the memory of each part with what it started, in MB."""
    found = {"dev": 0.0}
    owners: dict[int, str] = {pid: name for name, pid in pids.items() if pid is not None}
    parents = cpu.parents()
    for pid, size in sizes.items():
        one = pid
        while one not in owners and one != supervisor and one in parents:
            one = parents[one]
        name = owners.get(one, "dev")
        found[name] = found.get(name, 0) + size / 1e6
    return {f"MB {name}": size for name, size in found.items()}


def _start(ours: Otpqueue, folder: Path) -> tuple[subprocess.Popen[Any], float]:
    described = folder / ".otpqueue" / "dev.json"
    begin = time.monotonic()
    environment = clean_environment() | {"PYTHONPATH": str(ours.checkout), **ours.settings}
    with (folder / "dev.log").open("ab") as log:
        process = subprocess.Popen(
            [ours.python, "-m", "otpqueue", "dev", "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    while not described.is_file():
        if process.poll() is not None or time.monotonic() > begin + _READY_S:
            process.kill()
            raise SystemExit(f"otpqueue dev did not start: {(folder / 'dev.log').read_text()[-2000:]}")
        time.sleep(0.01)
    return process, time.monotonic() - begin


def _stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(60)
