"""The load generator, the fake provider and the entry point: what is measured with must be right itself."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import phonenumbers
import pytest

from benchmarks import __main__ as entry
from benchmarks.harness import cpu, http1, numbers, report, summary
from benchmarks.harness.provider import CODE
from benchmarks.harness.stage import answers
from otpqueue.embedded.home import free_port


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start the fake provider and yield its port."""
    port = free_port()
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "benchmarks.harness.provider", str(port)]
    with subprocess.Popen(command, cwd=root) as process:
        deadline = time.monotonic() + 20
        while not answers(port, "/_counts"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        http1.call(port, "POST", "/_set", b'{"send_s": 0.05, "verify_s": 0.01}')
        yield port
        process.terminate()


@pytest.fixture(autouse=True)
def forgotten(provider: int) -> None:
    """Have it forget what other tests asked."""
    http1.call(provider, "POST", "/_reset")


def send(number: str) -> bytes:
    """Return the call that sends a code."""
    return http1.request("POST", "/2fa/2/pin?ncNeeded=false", b'{"to": "%s"}' % number.encode())


def test_closed_loop_counts_what_was_answered_and_how_long_it_took(provider: int) -> None:
    """Ten at a time, 50 ms each."""
    wanted = (send(f"49151{place:06}") for place in range(40))
    load = http1.closed(provider, wanted, connections=10, expected=200)
    assert (load.answered, load.failed) == (40, {})
    assert 50 <= load.ms(0.5) < 500
    assert load.per_s <= 10 / 0.05


def test_answers_that_are_not_expected_are_counted_apart(provider: int) -> None:
    """A 404 is no success."""
    wanted = itertools.chain([http1.request("GET", "/nothing")], [send("49151")])
    load = http1.closed(provider, wanted, connections=1, expected=200)
    assert (load.answered, load.failed) == (1, {404: 1})


def test_schedule_is_kept_while_answers_are_slow(provider: int) -> None:
    """Answers take five times as long as requests are apart."""
    sent_at = []
    load = http1.scheduled(
        provider,
        (send(f"49152{place:06}") for place in itertools.count()),
        per_s=100,
        seconds=0.5,
        expected=200,
        on_answer=lambda _request, _status, _body, at, _answered_at: sent_at.append(at),
    )
    assert load.answered == 50
    assert max(sent_at) - min(sent_at) < 0.5 + 1


def test_driven_loop_asks_again_while_there_are_no_requests(provider: int) -> None:
    """Requests that come late are sent; the loop ends with the time, not with the first lack of requests."""
    begin = time.monotonic()
    late = iter([send("4921")])

    class Requests:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            if time.monotonic() < begin + 0.1:
                raise StopIteration
            return next(late)

    load = http1.driven(provider, Requests(), connections=2, seconds=0.3)

    assert load.answered == 1
    assert time.monotonic() - begin >= 0.3


def test_provider_counts_codes_that_go_to_a_number_twice(provider: int) -> None:
    """Numbers are known by their digits."""
    http1.closed(provider, iter([send("491"), send("+491"), send("492")]), connections=1, expected=200)
    assert http1.call(provider, "GET", "/_counts")[1].startswith(b'{"sent": 3, "doubles": 1')


@pytest.mark.parametrize(("code", "verified"), [(CODE, b"true"), ("000000", b"false")])
def test_provider_knows_the_right_code(provider: int, code: str, verified: bytes) -> None:
    """As long as its pinId was given out is not looked at."""
    status, body = http1.call(provider, "POST", "/2fa/2/pin/AB/verify", b'{"pin": "%s"}' % code.encode())
    assert (status, b'"verified":' + verified in body) == (200, True)


@pytest.mark.parametrize("source", [numbers.ordinary, numbers.new_blocks])
def test_numbers_are_valid_and_come_once(source: type[Iterator[str]]) -> None:
    """A sample of each."""
    sample = list(itertools.islice(source(), 2000))
    assert len(set(sample)) == len(sample)
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(one)) for one in sample[::50])
    blocks = {one[:-4] for one in sample}
    assert len(blocks) == (len(sample) if source is numbers.new_blocks else 100)


def test_cpu_of_children_counts_after_their_end() -> None:
    """A process that has ended is not forgotten while its parent runs."""
    busy = "sum(range(3_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{busy}']); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu.seconds(process.pid) > 0.03
        process.stdin.close()


def test_every_benchmark_is_there_and_has_defaults() -> None:
    """Also those that only a person starts."""
    parser, modules = entry._parser()
    assert modules.keys() == entry.MAIN.keys()
    assert all(parser.parse_args(list(one)).benchmark == one[0] for one in entry.ALL)
    for module in entry.PARTS.values():
        assert callable(importlib.import_module(f"benchmarks.{module}").main)


def test_summary_has_a_dash_where_nothing_was_measured() -> None:
    """A run of some benchmarks makes a whole table."""
    found: report.Found = {"otpqueue": [{"cold s": 5.0, "warm s": 4.0}, {"cold s": 7.0, "warm s": 4.0}]}
    table = summary.table([report.as_json("cold", {}, found)])
    assert "| `otpqueue dev` to ready: cold / warm | 6 / 4 s |" in table
    assert "| accepted and sent per second | - /s |" in table
