"""Parsing of entered codes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.checking import parse_code


@pytest.mark.parametrize("text", ["000000", "123456", "999999"])
def test_six_digits_are_a_code(text: str) -> None:
    """Six ASCII digits have the form of a code, leading zeros included."""
    assert parse_code(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "123 456",
        "123-456",
        "12 34 56",
        "1 2 3 4 5 6",
        "123 - 456",
        " 123456",
        "123456\n",
        "123\u00a0456",
        "123\u2011456",
        "123\u2013456",
        "\u202a123456\u202c",
        "１２３４５６",  # noqa: RUF001 - full-width digits
        "١٢٣٤٥٦",
    ],
    ids=ascii,
)
def test_code_is_read_as_it_was_meant(text: str) -> None:
    """Spaces, hyphens, invisible characters and digits of other scripts are accepted."""
    assert parse_code(text) == "123456"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345",
        "1234567",
        "123 4567",
        "12345a",
        "-123456",
        "123456-",
        "-12345",
        "+12345",
        "12345.",
        "123.456",
        "123\n456",
        "123\t456",
        "1e0000",
        "12345²",
        "12345①",
        "12345\0",
        "\0" * 6,
        "1" * 10_000,
        "1" + " " * 10_000 + "23456",
    ],
    ids=ascii,
)
def test_anything_else_is_no_code(text: str) -> None:
    """Text other than six digits is rejected before it counts as a check."""
    assert parse_code(text) is None


@given(st.text(max_size=8) | st.text("0123456789 -\u00a0\u2011", max_size=14))
def test_a_code_keeps_its_digits_and_their_order(text: str) -> None:
    """A parsed code has the digits of the text in their order."""
    code = parse_code(text)

    digits = "".join(str(unicodedata.digit(one)) for one in text if unicodedata.category(one) == "Nd")
    assert code in {None, digits}
    assert code is None or (len(code) == 6 and set(code) <= set("0123456789"))
