"""Valid phone numbers, each one once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

_BLOCKS = 100
_EACH = 10_000
# Not 01xx: that is set aside for documentation behind 555.
_LAST = "4567"


def ordinary() -> Iterator[str]:
    """Yield German mobile numbers, spread over a hundred blocks of ten thousand."""
    for index in itertools.count():
        serial, block = divmod(index % (_BLOCKS * _EACH), _BLOCKS)
        yield f"+491511{block:03}{serial:04}"


def new_blocks() -> Iterator[str]:
    """Yield North American numbers, each in a block of its own (a block: all but the last four digits)."""
    import phonenumbers  # noqa: PLC0415 - slow to import, and few benchmarks need it

    def is_taken(area: int) -> bool:
        number = phonenumbers.parse(f"+1{area}234{_LAST}")
        # Not toll-free, not at premium rate: nothing is sent to those.
        return phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE

    areas = [area for area in range(201, 990) if is_taken(area)]
    # Areas by turns: real traffic does not exhaust one before it comes to the next.
    for exchange in range(200, 1000):
        for area in areas:
            yield f"+1{area}{exchange}{_LAST}"
