"""The form of a code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.checking import is_code


@pytest.mark.parametrize("text", ["000000", "123456", "999999"])
def test_six_digits_are_a_code(text: str) -> None:
    """Six ASCII digits have the form of a code, leading zeros included."""
    assert is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12345",
        "1234567",
        "12345a",
        "123 456",
        " 123456",
        "123456\n",
        "-12345",
        "+12345",
        "12345.",
        "1e0000",
        "١٢٣٤٥٦",
        "１２３４５６",  # noqa: RUF001 - full-width digits
        "12345²",
        "12345\0",
        "\0" * 6,
        "1" * 10_000,
    ],
    ids=ascii,
)
def test_anything_else_is_no_code(text: str) -> None:
    """What is not six ASCII digits is refused before it could count as a check."""
    assert not is_code(text)


@given(st.text(max_size=8))
def test_a_code_is_six_characters_from_0_to_9(text: str) -> None:
    """No text slips through that is not made of the ten ASCII digits."""
    assert is_code(text) == (len(text) == 6 and set(text) <= set("0123456789"))
