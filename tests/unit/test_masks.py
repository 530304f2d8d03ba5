"""The masks of the logs hide secrets and keep identifiers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otpqueue.telemetry import masks

KEY = "oq_k2j4h6g8_Zx9-_abcdefghijklmnopqrstuvwxyz0123456789AB"
WEBHOOK_SECRET = "whsec_MfKQ+r8GKYqrTwjUPD8ILPZIo2LaLaSw/8cD="
PIN_ID = "9C817C6F8AF3D48F9FE553282AFA2B67"
INFOBIP_KEY = "003026bbc133714df1834b8638bb496e-8f4b3d9a-e931-478d-a994-28a725159ab9"

thoroughly = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SEPARATORS = st.sampled_from(
    ["", "", "", " ", "-", ". ", " (", ") ", "\u00a0", "/", "\u2011", "\u200b", "\u202c ", "\u2212", "\uff0d"]
)
WORDS = st.text(st.characters(categories=["L", "P", "Zs"]), max_size=12)
NO_SCHEMES = WORDS.filter(lambda words: not words.rstrip().endswith(("Basic", "Bearer", "App")))
"""Without what a key stands behind: Hypothesis takes words from the code that it tests."""


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, str]:
    """Return the digits of a phone number and a way to write it."""
    international = draw(st.booleans())
    digits = draw(st.text("0123456789", min_size=7 if international else 9, max_size=15))
    if draw(st.booleans()):
        return digits, ("+" if international else "") + digits
    separators = draw(st.lists(SEPARATORS, min_size=len(digits), max_size=len(digits)))
    written = "".join(digit + between for digit, between in zip(digits[:-1], separators, strict=False))
    return digits, ("+" if international else "") + written + digits[-1]


def digits_of(text: str) -> str:
    """Return the ASCII digits of a text."""
    return re.sub(r"[^0-9]", "", text)


@thoroughly
@given(number=numbers(), before=WORDS, after=WORDS)
def test_no_number_survives_in_a_text(number: tuple[str, str], before: str, after: str) -> None:
    """A number, however it is written, whatever stands around it, is gone but for a few digits at most."""
    digits, written = number

    shown = masks.mask_text(f"{before} {written} {after}")

    assert written not in shown
    assert digits not in digits_of(shown)
    assert masks.MASK in shown


def nested(leaf: object) -> st.SearchStrategy[Any]:
    """Return structures that hold this value somewhere."""
    keys = st.sampled_from(["to", "number", "detail", "args", "message", "value"])
    return st.recursive(
        st.just(leaf),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(keys, inner, min_size=1, max_size=3)
        ),
        max_leaves=5,
    )


@thoroughly
@given(
    data=st.data(), number=numbers(), wrap=st.sampled_from([str, str.encode, ValueError, lambda n: {n: 1}])
)
def test_no_number_survives_in_a_field(data: st.DataObject, number: tuple[str, str], wrap: Any) -> None:
    """Nested, as bytes, as a key, as an error: it is gone from what a renderer gets."""
    digits, written = number
    record = {"event": "something", "field": data.draw(nested(wrap(written)))}

    shown = json.dumps(masks.mask_values(record))

    assert written not in shown
    assert digits not in digits_of(shown)


@given(number=st.integers(100_000_000, 10**15 - 1), kind=st.sampled_from([int, float]))
def test_no_number_survives_as_a_number(number: int, kind: type[float]) -> None:
    """A number that was logged as an int is masked, too."""
    assert masks.mask_values({"to": kind(number), "many": [kind(number)]}) == {"to": "***", "many": ["***"]}


@thoroughly
@given(made=st.uuids(), before=NO_SCHEMES, after=WORDS)
def test_uuids_survive(made: uuid.UUID, before: str, after: str) -> None:
    """An id in a text or a field is what one searches the logs for."""
    assert str(made) in masks.mask_text(f"{before} {made} {after}")
    assert masks.mask_values({"otp_id": str(made), "request_id": str(made)}) == {
        "otp_id": str(made),
        "request_id": str(made),
    }


@given(made=st.uuids())
def test_ids_of_traces_survive(made: uuid.UUID) -> None:
    """The ids of trace and span stay by their names, although their digits may look like a number's."""
    ids = {"trace_id": made.hex, "span_id": made.hex[:16]}

    assert masks.mask_values(ids) == ids
    assert masks.mask_values({"span_id": "+447700900123", "trace_id": "447700900123"}) == {
        "span_id": masks.MASK,
        "trace_id": masks.MASK,
    }


@given(moment=st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_survive(moment: datetime) -> None:
    """Times as we and libraries write them stay."""
    for text in (moment.isoformat(), moment.isoformat().replace("+00:00", "Z"), str(moment)):
        assert masks.mask_text(text) == text


@given(seconds=st.floats(0, 99_999_999, allow_nan=False))
def test_durations_survive(seconds: float) -> None:
    """Durations stay, as numbers and in words."""
    assert masks.mask_values({"duration_ms": seconds}) == {"duration_ms": seconds}
    text = f"took {seconds:.9f} s"
    assert masks.mask_text(text) == text or seconds >= 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "POST /v1/otp-requests/{request_id}",
        "req-17",
        "5b3ef9a1c2d44e6f8a7b6c5d4e3f2a1b",
        "Listening at: http://127.0.0.1:8000",
        "redis://10.120.130.140:6379/0",
        "202 of 17500 in 2.5 s, pid 30123",
        "+44********23",
        "line 1234, in read",
        "code 500, port 54321, status code: 503",
        "otpqueue 0.1.0 on Python 3.11.7",
    ],
)
def test_other_text_is_not_masked(text: str) -> None:
    """What stands in our logs every day is not touched."""
    assert masks.mask_text(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"the key {KEY} is", KEY),
        (f"Authorization: Bearer {KEY}", KEY),
        (f"signed with {WEBHOOK_SECRET}", WEBHOOK_SECRET),
        ("{'Authorization': 'Bearer abcdefgh'}", "abcdefgh"),
        ("Bearer not-one-of-ours", "not-one-of-ours"),
        (f"App {INFOBIP_KEY}", INFOBIP_KEY),
        (f"key was {INFOBIP_KEY}.", INFOBIP_KEY),
        ("Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        (f"/2fa/2/pin/{PIN_ID}/verify", PIN_ID),
        (f'{{"pinId": "{PIN_ID}", "pin": "123456"}}', "123456"),
        ("pin=123456&x=1", "123456"),
        ("wrong code 123456", "123456"),
        ("otp: 123456", "123456"),
        ("wrong code 123 456", "123 456"),
        ("otp=123-456", "123-456"),
        ("postgresql://otpqueue:hunter2@db/otpqueue", "hunter2"),
        ("redis://:hunter2@cache:6379/0", "hunter2"),
        ("session_id='my-session'", "my-session"),
        ('"sessionId": "my-session"', "my-session"),
        ("password=hunter2", "hunter2"),
        ("\u0664\u0664\u0667\u0667\u0660\u0660\u0669\u0660\u0660\u0661\u0662\u0663", "\u0660\u0660\u0669"),
    ],
)
def test_secrets_in_a_text(text: str, secret: str) -> None:
    """Keys, codes, pinIds, sessions and passwords are gone from a text."""
    shown = masks.mask_text(text)

    assert secret not in shown
    assert masks.MASK in shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("code", "123456"),
        ("code", 123456),
        ("code", "123 456"),
        ("otp", "000000"),
        ("sms_pin", "123456"),
        ("pin_id", "anything"),
        ("session_id", "my-session"),
        ("session", ["my-session"]),
        ("password", "hunter2"),
        ("api_key", "test-key"),
        ("Authorization", "x"),
    ],
)
def test_secrets_by_their_names(key: str, value: object) -> None:
    """What a field's name gives away is masked, nested as well."""
    assert masks.mask_values({key: value}) == {key: "***"}
    assert masks.mask_values({"a": [{key: value}]}) == {"a": [{key: "***"}]}


def test_codes_of_problems_stay() -> None:
    """A field called `code` also holds what a problem is called, or a provider's number for it."""
    record = {"code": "database_unavailable", "provider_code": 5, "http_code": 404, "pin": None}

    assert masks.mask_values(record) == record


def test_value_that_cannot_be_shown() -> None:
    """A value with a failing repr does not lose the record."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("+447700900123")

    assert masks.mask_values({"a": Broken()}) == {"a": "<Broken>"}


@pytest.mark.parametrize("style", ["json", "readable"])
def test_everything_that_logs_is_masked(style: str) -> None:
    """Our records, libraries', tracebacks, causes, warnings, threads, the process's end: no number."""
    script = f"""
import logging, threading, warnings
from otpqueue.telemetry.logs import configure_logs, get_logger
configure_logs(process="test", style={style!r}, level="DEBUG")
number = "+447700" + "900123"
def fails():
    try:
        raise KeyError(number)
    except KeyError as error:
        raise ValueError("no way to " + number) from error
log, library = get_logger("ours"), logging.getLogger("celery.app")
log.info("sent to " + number, to=number, deep={{"a": [number, int(number)]}}, thing=ValueError(number))
library.warning("sent to %s %r", number, {{"to": number}}, extra={{"to": number}})
for logger in (log, library, logging.getLogger("_granian")):
    try:
        fails()
    except ValueError:
        logger.exception("failed for " + number)
log.info("stack", stack_info=True)
library.info("too few arguments %s %s", number)
warnings.warn("about " + number)
thread = threading.Thread(target=fails)
thread.start()
thread.join()
fails()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    assert "7700" not in digits_of(done.stderr)
    assert done.stderr.count("***") >= 12
    assert done.stderr.count("uncaught") == 2
    assert "record_not_written" in done.stderr
    assert done.stdout == ""


@given(texts=st.lists(WORDS | numbers().map(lambda number: number[1]), min_size=1, max_size=20))
def test_texts_are_masked_the_same_again(texts: list[str]) -> None:
    """That a text was seen before changes nothing, whatever was seen between."""
    first = [masks.mask_text(text) for text in texts]

    assert [masks.mask_text(text) for text in texts] == first


def test_few_texts_are_kept() -> None:
    """The texts that are known to be harmless are bounded, and a secret is never among them."""
    for number in range(5000):
        masks.mask_text(f"name-{number % 997}-{'x' * (number // 997)}")
    masks.mask_text(f"sent to {KEY}")

    assert 0 < len(masks._clean) <= 2048
    assert not [text for text in masks._clean if KEY in text]
