"""Quotas, the table of limits, and the rules for wrong codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue import policies
from otpqueue.domain.limits import (
    KEY_RATE,
    KEYLESS_LIMITS,
    LIMITS,
    REQUEST_LIMITS,
    GuessPolicy,
    Quota,
    WithoutRedis,
    WrongShare,
)
from otpqueue.settings import Settings, SettingsError, load


@pytest.mark.parametrize(
    ("text", "quota", "shown", "in_words"),
    [
        ("3/15m", Quota(3, 900), "3/15m", "3 in 15 minutes"),
        ("10/d", Quota(10, 86400), "10/d", "10 in 1 day"),
        ("10/24h", Quota(10, 86400), "10/d", "10 in 1 day"),
        ("1/1s", Quota(1, 1), "1/s", "1 in 1 second"),
        ("7/90s", Quota(7, 90), "7/90s", "7 in 90 seconds"),
    ],
)
def test_quota(text: str, quota: Quota, shown: str, in_words: str) -> None:
    """A quota is read, and shown in the largest unit that fits."""
    assert Quota.parse(text) == quota
    assert (str(quota), quota.in_words) == (shown, in_words)


def test_off() -> None:
    """A limit can be off."""
    assert Quota.parse("off") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3/",
        "/m",
        "3/15",
        "3 / 15m",
        "-3/m",
        "3.5/m",
        "3/15w",
        "0/m",
        "10001/s",
        "3/0m",
        "1/31d",
        "٣/m",
    ],
)
def test_no_quota(text: str) -> None:
    """An invalid quota is rejected with the expected format."""
    with pytest.raises(ValueError, match="must"):
        Quota.parse(text)


@given(st.integers(1, 10_000), st.integers(1, 30 * 86400))
def test_what_is_shown_is_read_again(amount: int, window_s: int) -> None:
    """The text of a quota parses to the same quota."""
    quota = Quota(amount, window_s)

    if window_s <= 99_999 or window_s % 60 == 0:
        assert Quota.parse(str(quota)) == quota


def test_table_contains_the_defaults() -> None:
    """Each limit has a setting with the default from the table."""
    for limit in LIMITS.values():
        field = Settings.model_fields[f"limit_{limit.name}"]
        assert (field.alias, field.default) == (limit.setting, limit.default)
    assert policies.quotas(load({}, dotenv=None)) == {
        name: Quota.parse(one.default) for name, one in LIMITS.items()
    }


def test_without_redis_nothing_is_sent_and_all_is_checked() -> None:
    """Without Redis, limits of requests reject and limits of calls admit."""
    assert {limit.without_redis for limit in REQUEST_LIMITS} == {WithoutRedis.REFUSED}
    assert {limit.without_redis for limit in (KEY_RATE, *KEYLESS_LIMITS)} == {WithoutRedis.ADMITTED}


def test_impossible_quota_is_a_settings_error() -> None:
    """An out-of-range quota is reported with its setting."""
    settings = load({"OTPQUEUE_LIMIT_NUMBER_DAY": "3/31d"}, dotenv=None)

    with pytest.raises(SettingsError, match="OTPQUEUE_LIMIT_NUMBER_DAY must have a window"):
        policies.quotas(settings)


@pytest.mark.parametrize(
    ("in_a_row", "locks"), [(0, False), (95, False), (96, True), (100, True), (500, True)]
)
def test_lock_leaves_no_room_for_more_than_allowed(in_a_row: int, locks: bool) -> None:
    """A number locks when the five checks of one more request might exceed a hundred."""
    share = WrongShare(ceiling=0.5, window_s=3600, min_checks=100)
    policy = GuessPolicy(number=None, client_ip=None, in_a_row=100, max_checks=5, share=share)

    assert policy.is_locked(in_a_row) is locks


@pytest.mark.parametrize(
    ("checks", "wrong", "exceeded"), [(99, 99, False), (100, 50, False), (100, 51, True), (0, 0, False)]
)
def test_share_of_wrong_codes(checks: int, wrong: int, exceeded: bool) -> None:
    """A share counts from the smallest sample on, and above its ceiling."""
    share = WrongShare(ceiling=0.5, window_s=3600, min_checks=100)

    assert share.is_exceeded(checks=checks, wrong=wrong) is exceeded
