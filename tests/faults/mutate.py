"""`python -m tests.faults.mutate`: break the product on purpose, and see which check of the harness notices.

Each mutation is a few replacements of text in a copy of the tree. There, only what should find it is run: a
short run of the harness, or the tests it names. A text that is not found exactly once is an error: the
product has changed, and the mutation must follow. `test_fault_mutations.py` checks that with all other tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cluster import PROJECT

_WITHIN_S = 480
_RUNS = 3
_COPIED = ("otpqueue", "migrations", "tests", "docs", "pyproject.toml", "README.md", ".env.example")
_TESTS_FAILED = 1
"""Exit code of pytest when a test failed; any other says that the tests could not be run."""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One replacement of text."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A defect: what it is, what must find it, and how.

    `check` names a check of the harness, and `run` holds the switches of a run in which the defect shows. Or
    `tests` names the tests that must fail.
    """

    name: str
    says: str
    edits: tuple[Edit, ...]
    check: str = ""
    run: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


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
    "--set=OTPQUEUE_TUNING_SEND_LEASE_S=4",
    "--pause-s",
    "4.5",
    "6",
)
_LOCKS = ("--requests=160", "--rate=8", "--kills=9", "--kinds=lock-rows,slow")
_OUTAGES = ("--requests=160", "--rate=8", "--kills=3", "--kinds=outage-postgres,slow")

MUTATIONS = (
    Mutation(
        name="leases-forgotten",
        says="the sweep does not find expired leases",
        check="nothing_lost",
        edits=(
            Edit(
                path="otpqueue/operations/sweep.py",
                old="for claim in attempts.find_expired_leases(conn, limit=BATCH)]",
                new="for claim in attempts.find_expired_leases(conn, limit=BATCH) if not claim]",
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
                old="lambda conn: expiring.expire_unsent(conn, now=now, limit=BATCH)",
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
                old="lambda conn: expiring.expire_unsent(conn, now=now, limit=BATCH)",
                new="lambda _: []",
            ),
            Edit(
                path="otpqueue/store/sql/due_clients.sql",
                old="                    AND r.send_by > at\n",
                new="",
            ),
            Edit(
                path="otpqueue/store/sql/lock_due.sql",
                old=" AND r.send_by > at\n              AND r.id <> ALL (locked)",
                new="\n              AND r.id <> ALL (locked)",
            ),
            Edit(
                path="otpqueue/store/sql/next_due.sql",
                old="WHERE r.send_state = 'due' AND r.next_attempt_at > at - interval '600 s'"
                " AND r.send_by > at",
                new="WHERE r.send_state = 'due' AND r.next_attempt_at > at - interval '600 s'",
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
                path="otpqueue/store/sql/lock_due.sql",
                old="            LIMIT quota\n            FOR NO KEY UPDATE OF r SKIP LOCKED\n",
                new="            LIMIT quota\n",
            ),
        ),
        run=("--requests=400", "--rate=40", "--kills=2", "--kinds=storm", "--set=OTPQUEUE_SENDER_THREADS=2"),
    ),
    Mutation(
        name="unknown-without-bound",
        says="unknown outcomes are retried as often as refused sends",
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
                path="otpqueue/store/sql/record_attempts.sql",
                old=" AND r.attempt = result.attempt\n",
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
                old="AND r.status IN ('delivered', 'sent', 'undelivered') AND r.pin_id IS NOT NULL",
                new="AND r.pin_id IS NOT NULL",
            ),
            Edit(
                path="otpqueue/store/sql/record_check.sql",
                old="moved := r.status IN ('delivered', 'sent', 'undelivered')\n",
                new="moved := true\n",
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
                old="ELSE r.session_hash = ANY(%(session_hashes)s::bytea[]) IS TRUE END",
                new="ELSE true END",
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
        says="a changed outcome is counted again, and its old count stays",
        check="statistics_exact",
        edits=(
            Edit(
                path="otpqueue/store/sql/send_attempts_tell_statistics.sql",
                old=" UNION ALL SELECT -1, * FROM old_attempts",
                new="",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="locks-waited-for",
        says="recording a batch waits for a row that a foreign session has locked, and drops the batch",
        check="outcomes_kept",
        edits=(
            Edit(
                path="otpqueue/store/sql/record_attempts.sql",
                old="FOR NO KEY UPDATE SKIP LOCKED\n",
                new="FOR NO KEY UPDATE\n",
            ),
            Edit(
                path="otpqueue/operations/pump_recorder.py",
                old="            self._keep_results(job, finished)\n            return False\n",
                new="            return False\n",
            ),
        ),
        run=_LOCKS,
    ),
    Mutation(
        name="turns-not-taken",
        says="the client that comes first gets all slots of each claim",
        check="clients_take_turns",
        edits=(
            Edit(
                path="otpqueue/store/sql/claim_due.sql",
                old="quota := greatest(1, wanted / cardinality(turns));",
                new="quota := wanted;",
            ),
            Edit(
                path="otpqueue/store/sql/claim_due.sql",
                old="coalesce(after, '00000000-0000-0000-0000-000000000000'), slots, at,",
                new="'00000000-0000-0000-0000-000000000000', slots, at,",
            ),
        ),
        run=(
            "--requests=160",
            "--rate=8",
            "--kills=4",
            "--kinds=slow,flood-requests",
            "--set=OTPQUEUE_SENDER_THREADS=4",
        ),
    ),
    Mutation(
        name="outcomes-dropped",
        says="outcomes that cannot be recorded while Postgres is away are dropped",
        check="outcomes_kept",
        edits=(
            Edit(
                path="otpqueue/operations/pump_recorder.py",
                old="            self._keep_results(job, finished)\n            return False\n",
                new="            return False\n",
            ),
        ),
        run=_OUTAGES,
    ),
    Mutation(
        name="sweep-hasty",
        says="after an outage of Postgres the sweep does not wait for workers to record what they know",
        edits=(
            Edit(
                path="otpqueue/operations/sweep.py",
                old="again_from = now + _LATE_OUTCOME",
                new="again_from = now",
            ),
        ),
        tests=("tests/operations/test_sweeping.py::test_outcome_comes_before_the_next_claim",),
    ),
    Mutation(
        name="gateway-ends-codes",
        says="a 404 of a gateway on a check is taken for Infobip's word that there is no such code",
        check="codes_judged_rightly",
        edits=(
            Edit(
                path="otpqueue/infobip/wire.py",
                old="    if own and 400 <= reply.status < 500:\n"
                "        verdict = _UNDOCUMENTED_CODES.get(own, verdict)\n"
                "        if reply.status == 404 and own.endswith(_NOT_THERE):\n",
                new="    if 400 <= reply.status < 500:\n"
                '        verdict = _UNDOCUMENTED_CODES.get(own or "", verdict)\n'
                "        if reply.status == 404:\n",
            ),
        ),
        run=("--requests=160", "--rate=16", "--kills=0", "--provider=404 html,404 empty"),
    ),
    Mutation(
        name="gateway-stops-all",
        says="a 401 of a gateway on a send is taken for a wrong API key, and stops all sending",
        edits=(
            Edit(
                path="otpqueue/infobip/wire.py",
                old="    if not is_own:\n        return replace(",
                new="    if not code:\n        return replace(",
            ),
        ),
        tests=("tests/operations/test_sending_outcomes.py::test_rejection_of_a_gateway_opens_no_circuit",),
    ),
    Mutation(
        name="broker-ends-workers",
        says="a broker that answers with errors ends every worker",
        check="processes_end_only_when_stopped",
        edits=(
            Edit(
                path="otpqueue/worker/consumer.py",
                old="        self.channel_errors = (Exception,)\n",
                new="",
            ),
            Edit(
                path="otpqueue/worker/main.py",
                old="    celery.conf.broker_channel_error_retry = True\n",
                new="",
            ),
        ),
        run=("--requests=100", "--rate=8", "--kills=4", "--kinds=refuse-redis"),
    ),
    Mutation(
        name="exit-code-lies",
        says="a worker that ended unasked has exit code 0",
        edits=(
            Edit(
                path="otpqueue/worker/main.py",
                old="return int(code or 0) or (0 if requested else 1)",
                new="return int(code or 0)",
            ),
        ),
        tests=("tests/worker/test_refusing_broker.py::test_worker_that_ends_unasked[raise SystemExit(0)]",),
    ),
    Mutation(
        name="children-orphaned",
        says="a process of the API outlives its main process",
        check="processes_end_only_when_stopped",
        edits=(
            Edit(
                path="otpqueue/api/server.py",
                old="    parent.end_with_parent(grace_s=ORPHANED_S)\n",
                new="",
            ),
        ),
        run=("--requests=80", "--rate=8", "--kills=1", "--kinds=orphan-api"),
    ),
    Mutation(
        name="caps-not-given-back",
        says="an attempt that was refused stays in the counts of the daily caps",
        check="caps_exact",
        edits=(
            Edit(
                path="otpqueue/store/sql/record_attempts.sql",
                old="PERFORM give_back_sends(unsent, unsent_days);",
                new="NULL;",
            ),
        ),
        run=_CALM,
    ),
    Mutation(
        name="limits-uncounted",
        says="a limit admits more than it says",
        check="refusals_documented",
        edits=(
            Edit(
                path="otpqueue/domain/limits.py",
                old="return cls(amount, window_s)",
                new="return cls(2 * amount, window_s)",
            ),
        ),
        run=("--requests=40", "--rate=8", "--kills=0", "--stories=greedy,right"),
    ),
    Mutation(
        name="right-code-unrecorded",
        says="recording a right code is not repeated when the answer of Postgres is lost",
        edits=(
            Edit(
                path="otpqueue/operations/verify.py",
                old="_RECORD_WITHIN_S = 3.0",
                new="_RECORD_WITHIN_S = 0.0",
            ),
        ),
        tests=("tests/operations/test_verifying_recorded.py::test_answer_of_postgres_is_lost",),
    ),
    Mutation(
        name="resends-in-vain",
        says="a code that is about to expire is sent again",
        edits=(
            Edit(
                path="otpqueue/operations/resend.py",
                old="    if request.expires_at - RESEND_HEADROOM <= now:\n        return ResendTooLate()\n",
                new="",
            ),
            Edit(
                path="otpqueue/store/requests.py",
                old="            latest > now,\n",
                new="",
            ),
        ),
        tests=("tests/operations/test_resending.py::test_code_that_is_about_to_expire",),
    ),
    Mutation(
        name="waiting-unbounded",
        says="any number of calls of one client may wait for a check, and hold a thread each",
        edits=(
            Edit(
                path="otpqueue/operations/check_waiters.py",
                old="if request_id in self._requests or self._clients[client_id] >= self._of_client:",
                new="if not client_id:",
            ),
        ),
        tests=("tests/operations/test_verifying_at_once.py::test_few_calls_of_a_client_wait",),
    ),
    Mutation(
        name="erasure-leaves-ids",
        says="an erasure leaves the ids of requests in the evidence of alerts",
        edits=(
            Edit(
                path="otpqueue/store/privacy/erasing.py",
                old="return updated + _take_out(conn, holding, ids)",
                new="return updated",
            ),
        ),
        tests=("tests/operations/test_erased_everywhere.py::test_nothing_leads_to_an_erased_number",),
    ),
    Mutation(
        name="status-leaked-to-strangers",
        says="a caller without a key learns how the requests of a number ended",
        edits=(
            Edit(
                path="otpqueue/operations/verify.py",
                old="= (*ENDED.values(), RequestNotFound)",
                new="= (RequestNotFound,)",
            ),
            Edit(
                path="otpqueue/store/requests.py",
                old="and_(mine, filter_by_status(LIVE), or_(_r.expires_at.is_(None), _r.expires_at > now))",
                new="mine",
            ),
        ),
        tests=("tests/api/test_guide.py::test_keyless_callers_learn_nothing_about_a_number",),
    ),
    Mutation(
        name="strangers-take-places",
        says="the body of a delivery report is read before its credentials are judged",
        edits=(
            Edit(
                path="otpqueue/api/server.py",
                old="refusals={receipts.PATH: receipts.ReceiptsCredentials.of(current).refusal},",
                new="refusals={},",
            ),
        ),
        tests=(
            "tests/api/test_receipts.py::test_unauthenticated_calls_take_no_slots",
            "tests/api/test_receipts.py::test_body_of_an_unauthenticated_call_is_not_read",
        ),
    ),
    Mutation(
        name="sessions-trusted",
        says="sessions keep the DateStyle of the role, which may not be ISO",
        edits=(
            Edit(
                path="otpqueue/store/engine.py",
                old='        event.listen(engine, "connect", sessions.enforce_settings)\n',
                new="        pass\n",
            ),
        ),
        tests=("tests/store/test_sessions.py",),
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


@dataclass(frozen=True)
class Verdict:
    """What a mutation's tests or run found."""

    found: Mapping[str, int]
    """How many violations each check found, or how many tests failed."""
    seconds: float


def judge(mutation: Mutation, *, seed: int) -> Verdict:
    """Run what should find a mutation over a mutated copy.

    Raises LookupError as `mutated` does, RuntimeError when the run itself failed, TimeoutExpired.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="otpqueue-mutant-") as folder:
        Path(folder).chmod(0o711)
        tree = Path(folder) / "tree"
        tree.mkdir()
        copy_tree(tree)
        mutated(mutation, tree)
        if mutation.tests:
            found = _failed_tests(mutation, tree)
        else:
            found = _violations(mutation, tree, Path(folder) / "kept", seed=seed)
    return Verdict(found, time.monotonic() - began)


def _violations(mutation: Mutation, tree: Path, kept: Path, *, seed: int) -> dict[str, int]:
    switches = (f"--seed={seed}", "--short", f"--keep={kept}", *mutation.run)
    done = _python(tree, "tests.faults", *switches)
    if not (kept / "verdict.json").exists():
        raise RuntimeError(f"{mutation.name}: the run failed\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    found: dict[str, int] = json.loads((kept / "verdict.json").read_text())
    return found


def _failed_tests(mutation: Mutation, tree: Path) -> dict[str, int]:
    done = _python(tree, "pytest", "-q", "-n0", "--no-header", "--tb=no", *mutation.tests)
    if done.returncode not in {0, _TESTS_FAILED}:
        raise RuntimeError(f"{mutation.name}: pytest could not run\n{done.stdout[-3000:]}")
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(test_\w+)", done.stdout, re.MULTILINE)
    return dict(Counter(failed))


def _python(tree: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )


def _is_found(mutation: Mutation, verdict: Verdict) -> bool:
    return mutation.check in verdict.found if mutation.check else bool(verdict.found)


def _find(mutation: Mutation, *, seed: int) -> Verdict:
    """Run a mutation until it is found, with one seed after the other: which fault meets what is chance."""
    verdict, seconds = Verdict({}, 0.0), 0.0
    for nth in range(1 if mutation.tests else _RUNS):
        try:
            verdict = judge(mutation, seed=seed + nth)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"{error}\n")
            verdict = Verdict({}, float(_WITHIN_S) if isinstance(error, subprocess.TimeoutExpired) else 0.0)
        seconds += verdict.seconds
        if _is_found(mutation, verdict):
            break
    return Verdict(verdict.found, seconds)


def _row(mutation: Mutation, verdict: Verdict) -> str:
    by = ", ".join(f"`{check}` {count}" for check, count in sorted(verdict.found.items()))
    if not _is_found(mutation, verdict):
        by = f"NOT FOUND by {mutation.check or 'its tests'}; {by or 'nothing'}"
    return f"| `{mutation.name}` | {mutation.says} | {by} | {verdict.seconds:.0f} s |\n"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all mutations, or those that are named; exit code 1 when one was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutate", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to run; all unless given")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--parallel", type=_positive, default=1, metavar="N", help="how many mutations run at once"
    )
    given = parser.parse_args(arguments)
    unknown = set(given.names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    wanted = [one for one in MUTATIONS if not given.names or one.name in given.names]
    missed = 0
    sys.stdout.write("| mutation | what is broken | found by | time |\n|---|---|---|---|\n")
    sys.stdout.flush()
    with ThreadPoolExecutor(given.parallel) as pool:
        try:
            running = {pool.submit(_find, mutation, seed=given.seed): mutation for mutation in wanted}
            for done in as_completed(running):
                verdict = done.result()
                missed += not _is_found(running[done], verdict)
                sys.stdout.write(_row(running[done], verdict))
                sys.stdout.flush()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
