"""`python -m tests.faults`: run the fault harness; exit code 1 when a check fails."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import checks, report
from tests.faults.callers import STORIES
from tests.faults.chaos import KINDS, PROVIDER_FAULTS
from tests.faults.run import Plan, run


def main() -> int:
    """Run the harness with the given arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--seed", type=int, help="what the calls and faults are drawn from; random unless given"
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument(
        "--kills", type=int, default=30, help="how many things go wrong besides the provider's"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--broker", help="Celery's broker, if it is not to be our own Valkey")
    parser.add_argument("--short", action="store_true", help="no callers that wait half a minute or more")
    parser.add_argument("--kinds", help=f"what may go wrong, commas between, of: {', '.join(KINDS)}")
    parser.add_argument("--stories", help=f"what callers do, commas between, of: {', '.join(STORIES)}")
    parser.add_argument(
        "--provider", help=f"what may go wrong with single numbers, of: {', '.join(PROVIDER_FAULTS)}"
    )
    parser.add_argument("--pause-s", nargs=2, type=float, help="shortest and longest pause of a sender")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting")
    parser.add_argument("--keep", type=Path, help="folder for the logs, history.json and verdict.json")
    given = parser.parse_args()
    plan = Plan(
        seed=given.seed if given.seed is not None else random.randrange(1_000_000),
        requests=given.requests,
        kills=given.kills,
        rate=given.rate,
        long=not given.short,
        kinds=_words(given.kinds),
        stories=_words(given.stories),
        provider=_words(given.provider),
        pause_s=(given.pause_s[0], given.pause_s[1]) if given.pause_s else None,
        broker_url=given.broker,
        settings=dict(pair.split("=", 1) for pair in given.set),
    )
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        return _run(plan, given.keep, keep=True)
    with tempfile.TemporaryDirectory(prefix="otpqueue-faults-") as folder:
        Path(folder).chmod(0o711)  # As root, Postgres runs as another user, who must get to its folder.
        return _run(plan, Path(folder), keep=False)


def _words(text: str | None) -> list[str] | None:
    return text.split(",") if text else None


def _run(plan: Plan, folder: Path, *, keep: bool) -> int:
    began = time.monotonic()
    _say(f"seed {plan.seed}: {plan.requests} requests in {plan.duration_s:.0f} s, {plan.kills} faults")
    history = run(plan, folder, say=_say)
    found = checks.violations(history)
    if keep:
        history.save(folder / "history.json")
        verdict = Counter(violation.check for violation in found)
        (folder / "verdict.json").write_text(json.dumps(verdict))
    _say(report.table(history))
    _say(f"{'wall time':<34} {time.monotonic() - began:.0f} s")
    if found:
        _say(report.complaint(history, found, seed=plan.seed))
        return 1
    _say(f"no violation with seed {plan.seed}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
