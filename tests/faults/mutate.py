"""`python -m tests.faults.mutate`: break the product on purpose, and see which check of the harness notices.

Each mutation is a few replacements of text in a copy of the tree, where a short run of the harness follows. A
text that is not found exactly once is an error: then the product has changed and the mutation must follow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cluster import PROJECT

_WITHIN_S = 240
_RUNS = 4
_COPIED = ("otpqueue", "migrations", "tests", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement of text."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A defect: what it is, which check must notice it, and a run in which it shows."""

    name: str
    says: str
    check: str
    edits: tuple[Edit, ...]
    run: tuple[str, ...]


_CRASHES = ("--requests=100", "--rate=8", "--kills=6", "--kinds=kill-send")
_CALM = ("--requests=80", "--rate=8", "--kills=2", "--kinds=storm")
_NOBODY_SENDS = (
    "--requests=100",
    "--rate=5",
    "--kills=14",
    "--kinds=kill-send,terminate-send",
    "--set=OTPQUEUE_SEND_WITHIN_S=4",
)
_PAUSES = (
    "--requests=300",
    "--rate=8",
    "--kills=9",
    "--kinds=pause-send,slow",
    # Long enough for another to take over, and too short for that one to be done.
    "--set=OTPQUEUE_SEND_LEASE_S=4",
    "--pause-s",
    "4.5",
    "6",
)

MUTATIONS = (
    Mutation(
        name="leases-forgotten",
        says="the sweep does not look for leases that ran out",
        check="nothing_lost",
        edits=(
            Edit(
                path="otpqueue/operations/sweep.py",
                old="for claim in attempts.overdue(conn, limit=BATCH)]",
                new="for claim in attempts.overdue(conn, limit=BATCH) if not claim]",
            ),
        ),
        run=(*_CRASHES, "--set=OTPQUEUE_SEND_WITHIN_S=20"),
    ),
    Mutation(
        name="deadline-forgotten",
        says="the sweep does not end codes that could not leave in time",
        check="nothing_lost",
        edits=(
            Edit(
                path="otpqueue/operations/sweep.py",
                old="lambda conn: requests.expire_unsent(conn, now=now, limit=BATCH)",
                new="lambda _: []",
            ),
        ),
        run=_NOBODY_SENDS,
    ),
    Mutation(
        name="deadline-ignored",
        says="a code leaves after `send_by`",
        check="sends_bounded",
        edits=(
            Edit(
                path="otpqueue/operations/sweep.py",
                old="lambda conn: requests.expire_unsent(conn, now=now, limit=BATCH)",
                new="lambda _: []",
            ),
            Edit(
                path="otpqueue/store/attempts.py",
                old="next_attempt_at <= :now AND send_by > :now",
                new="next_attempt_at <= :now",
            ),
            Edit(
                path="otpqueue/store/attempts.py",
                old="_r.send_state == SendState.DUE, _r.send_by > now",
                new="_r.send_state == SendState.DUE",
            ),
            Edit(
                path="otpqueue/operations/send.py",
                old=">= claim.progress.send_by\n",
                new=">= claim.progress.send_by + timedelta(hours=1)\n",
            ),
        ),
        run=_NOBODY_SENDS,
    ),
    Mutation(
        name="claims-unlocked",
        says="two workers may claim the same request",
        check="sends_bounded",
        edits=(
            Edit(
                path="otpqueue/store/attempts.py",
                old="LIMIT :slots\n        FOR UPDATE SKIP LOCKED",
                new="LIMIT :slots",
            ),
        ),
        run=("--requests=400", "--rate=40", "--kills=2", "--kinds=storm", "--set=OTPQUEUE_SENDER_THREADS=2"),
    ),
    Mutation(
        name="unknown-without-bound",
        says="what nobody knows is sent again as often as what was refused",
        check="sends_bounded",
        edits=(
            Edit(
                path="otpqueue/domain/sending.py",
                old="if progress.unknowns >= policy.unknown_resends:",
                new="if progress.unknowns >= 20 * policy.unknown_resends:",
            ),
        ),
        run=("--requests=120", "--rate=10", "--kills=8", "--kinds=storm,pause-simulator"),
    ),
    Mutation(
        name="fence-removed",
        says="the late word of an old attempt moves a request that a newer attempt holds",
        check="sends_recorded",
        edits=(
            Edit(
                path="otpqueue/store/attempts.py",
                old="AND r.attempt = result.attempt\n",
                new="\n",
            ),
        ),
        run=_PAUSES,
    ),
    Mutation(
        name="silence-is-refusal",
        says="a send without an answer is taken for refused, and sent again freely",
        check="sends_recorded",
        edits=(
            Edit(
                path="otpqueue/infobip/wire.py",
                old="return Outcome(kind=OutcomeKind.UNKNOWN, code=reply.code)",
                new="return Outcome(kind=OutcomeKind.REFUSED, code=reply.code, retryable=True)",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="crash-is-refusal",
        says="what a killed worker held is taken for not sent",
        check="sends_recorded",
        edits=(
            Edit(
                path="otpqueue/domain/sending.py",
                old='LEASE_RAN_OUT = Outcome(kind=OutcomeKind.UNKNOWN, code="lease_ran_out")',
                new='LEASE_RAN_OUT = Outcome(kind=OutcomeKind.REFUSED, code="lease_ran_out", retryable=True)',
            ),
        ),
        run=_CRASHES,
    ),
    Mutation(
        name="code-used-twice",
        says="a right code is accepted whatever the request's status",
        check="codes_judged_rightly",
        edits=(
            Edit(
                path="otpqueue/store/checks.py",
                old="r.status = ANY(CAST(:checkable AS text[])) AND r.pin_id",
                new="(true OR r.status = ANY(CAST(:checkable AS text[]))) AND r.pin_id",
            ),
            Edit(
                path="otpqueue/store/checks.py",
                old="conditions = [_r.id == check.request_id, in_status(CHECKABLE)]",
                new="conditions = [_r.id == check.request_id]",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="guesses-uncounted",
        says="a wrong code costs no check",
        check="codes_judged_rightly",
        edits=(
            Edit(
                path="otpqueue/store/checks.py",
                old="SET checks_used = r.checks_used + 1,",
                new="SET checks_used = r.checks_used,",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="session-ignored",
        says="a code is good for any session",
        check="codes_judged_rightly",
        edits=(
            Edit(
                path="otpqueue/store/checks.py",
                old="OR r.session_hash = ANY(CAST(:session_hashes AS bytea[]))",
                new="OR CAST(:session_hashes AS bytea[]) IS NOT NULL",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="report-moves-the-dead",
        says="a delivery report moves a request that has ended",
        check="states_move_forward",
        edits=(
            Edit(
                path="otpqueue/store/receipts.py",
                old="(verdict.delivered AND q.status IN ('sent', 'undelivered'))",
                new="(verdict.delivered AND q.status IN ('sent', 'undelivered', 'verified'))",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="leases-swept-late",
        says="what a killed worker held is picked up, but twenty seconds late",
        check="crashes_recovered",
        edits=(
            Edit(
                path="otpqueue/store/attempts.py",
                old="_r.lease_until < func.statement_timestamp())",
                new="_r.lease_until < func.statement_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 20))",
            ),
        ),
        run=_CRASHES,
    ),
    Mutation(
        name="second-thoughts-added",
        says="what turns out otherwise is counted anew, and what was counted before stays",
        check="statistics_exact",
        edits=(
            Edit(
                path="migrations/versions/0010_statistics.py",
                old=" UNION ALL SELECT -1, * FROM old_attempts",
                new="",
            ),
        ),
        run=_CALM,
    ),
)


def mutated(mutation: Mutation, tree: Path) -> None:
    """Apply a mutation to a tree. Raises LookupError when a text is not there exactly once."""
    for edit in mutation.edits:
        path = tree / edit.path
        text = path.read_text()
        if text.count(edit.old) != 1:
            found = text.count(edit.old)
            raise LookupError(f"{mutation.name}: found {found} times in {edit.path}: {edit.old}")
        path.write_text(text.replace(edit.old, edit.new))


def copy_tree(target: Path) -> None:
    """Copy what a run needs of the project."""
    for name in _COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def verdict(mutation: Mutation, *, seed: int) -> dict[str, int]:
    """Run the harness over a mutated copy and return how many violations each check found.

    Raises LookupError as `mutated` does, RuntimeError when the run itself failed.
    """
    with tempfile.TemporaryDirectory(prefix="otpqueue-mutant-") as folder:
        Path(folder).chmod(0o711)
        tree, kept = Path(folder) / "tree", Path(folder) / "kept"
        tree.mkdir()
        copy_tree(tree)
        mutated(mutation, tree)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.faults",
                f"--seed={seed}",
                "--short",
                f"--keep={kept}",
                *mutation.run,
            ],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
        if not (kept / "verdict.json").exists():
            raise RuntimeError(
                f"{mutation.name}: the run failed\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            )
        found: dict[str, int] = json.loads((kept / "verdict.json").read_text())
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all mutations, or those that are named; exit code 1 when one went unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutate", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to run; all unless given")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    unnoticed = 0
    sys.stdout.write("| mutation | what is broken | noticed by |\n|---|---|---|\n")
    for mutation in MUTATIONS:
        if given.names and mutation.name not in given.names:
            continue
        found: dict[str, int] = {}
        for seed in range(given.seed, given.seed + _RUNS):
            # Which fault meets what is chance: one run may miss what a longer one would find.
            try:
                found = verdict(mutation, seed=seed)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                sys.stderr.write(f"{error}\n")
            if mutation.check in found:
                break
        unnoticed += mutation.check not in found
        others = ", ".join(f"`{check}` {count}" for check, count in sorted(found.items()))
        sys.stdout.write(f"| `{mutation.name}` | {mutation.says} | {others or 'NOTHING'} |\n")
        sys.stdout.flush()
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
