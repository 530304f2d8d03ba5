"""Search cursors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.search import (
    CURSOR_BYTES,
    SIGNATURE_BYTES,
    SearchFilters,
    SearchPosition,
    from_cursor,
    to_cursor,
)

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS, st.uuids(), st.binary(min_size=SIGNATURE_BYTES, max_size=SIGNATURE_BYTES))
def test_cursor_comes_back(at: datetime, request_id: UUID, signature: bytes) -> None:
    """A position and its signature survive, to the microsecond, in one word that a URL may hold."""
    cursor = to_cursor(SearchPosition(at, request_id), signature)

    assert re.fullmatch(rf"[A-Za-z0-9_-]{{{CURSOR_BYTES * 4 // 3}}}", cursor)
    assert from_cursor(cursor) == (SearchPosition(at, request_id), signature)


@pytest.mark.parametrize("cursor", ["", "x", "?" * 56, "A" * 55, "A" * 57, "A" * 60, "+" * 56, "é" * 56])
def test_no_cursor(cursor: str) -> None:
    """Text that is not a cursor raises ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        from_cursor(cursor)


@given(st.text("AB-_+/=z", max_size=60) | st.text(max_size=60) | st.from_regex(r"[\w-]{56}", fullmatch=True))
def test_any_text(cursor: str) -> None:
    """Text that parses as a cursor formats to the same text."""
    try:
        position, signature = from_cursor(cursor)
    except ValueError:
        return
    assert to_cursor(position, signature) == cursor


def test_other_filters_are_another_text() -> None:
    """Different filters have different texts, and their repr hides the number."""
    searches = [
        SearchFilters(),
        SearchFilters(status="sent"),
        SearchFilters(client="sent"),
        SearchFilters(phone_number="sent"),
        SearchFilters(created_after=datetime(2026, 1, 1, tzinfo=UTC)),
        SearchFilters(created_before=datetime(2026, 1, 1, tzinfo=UTC)),
        SearchFilters(status="', None, '"),
    ]

    assert len({one.to_text() for one in searches}) == len(searches)
    assert "+447700900123" not in repr(SearchFilters(phone_number="+447700900123"))
