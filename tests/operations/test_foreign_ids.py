"""Another client's request and an unknown one: the same refusal, with the same queries."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from otpqueue import clock
from otpqueue.domain.errors import RequestNotFound
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows
from tests.statements import spied_statements

Act = Callable[[Parts, UUID, UUID], object]

ACTS: dict[str, Act] = {
    "status": lambda parts, request_id, client_id: parts.status(request_id, client_id=client_id),
    "cancel": lambda parts, request_id, client_id: parts.cancel(
        request_id, client_id=client_id, now=clock.now()
    ),
    "resend": lambda parts, request_id, client_id: parts.resend(
        request_id, client_id=client_id, channel=None, now=clock.now()
    ),
    "verify": lambda parts, request_id, client_id: parts.verify(
        request_id, TypedCode(code="123456"), client_id=client_id, now=clock.now()
    ),
    "verify from a session": lambda parts, request_id, client_id: parts.verify(
        request_id, TypedCode(code="123456", session_id="a"), client_id=client_id, now=clock.now()
    ),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_foreign_is_unknown(parts: Parts, ask_sent: AskSent, rows: Rows, act: Act) -> None:
    """The two cases are indistinguishable, even by their cost, and the request is unchanged."""
    request = ask_sent(session_id="a")
    stranger = parts.keys.client_id("stranger", now=clock.now())
    before = rows.request(request.id)
    seen: list[str] = []

    refusals, queries = [], []
    with spied_statements(seen.append):
        for request_id in (request.id, uuid4()):
            seen.clear()
            with pytest.raises(RequestNotFound) as refused:
                act(parts, request_id, stranger)
            refusals.append(str(refused.value))
            queries.append(list(seen))

    assert queries[0] == queries[1] != []
    assert refusals[0] == refusals[1]
    assert rows.request(request.id) == before
