"""Verification pages: one browser, one redemption, also of many at once; rotated keys, erased numbers."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from otpqueue import clock
from otpqueue.domain.errors import (
    InvalidRequest,
    OtpqueueError,
    ReturnUrlNotRegistered,
    VerificationTokenInvalid,
)
from otpqueue.domain.request import Channel
from otpqueue.domain.verification_pages import PageStage
from otpqueue.operations.verification_pages.create import CreatedPage, WantedPage
from otpqueue.operations.verification_pages.visit import ForeignBrowser, PageNotAvailable, PageVisit
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, MakeParts, Provider
from tests.operations.looking import Rows, at_once

RETURN_URL = "https://shop.example/done"
OLD, NEW = (base64.b64encode(letter * 32).decode() for letter in (b"h", b"i"))
K1 = "k1:" + base64.b64encode(b"s" * 32).decode()
K2 = "k2:" + base64.b64encode(b"t" * 32).decode()


def silent(_key: str, _done: int, _of: int) -> None:
    """Ignore progress."""


@dataclass
class Visitor:
    """A person with one page, at processes that may change."""

    parts: Parts
    client_id: UUID
    provider: Provider
    link: str = ""
    browser: str | None = None

    def create(self, **wanted: Any) -> CreatedPage:
        """Create a page."""
        self.parts.clients.set("test", "page.return_urls", RETURN_URL)
        created = self.parts.create_page(
            WantedPage(return_url=RETURN_URL, **wanted), client_id=self.client_id, now=clock.now()
        )
        self.link = created.link
        return created

    def open(self, *, now: datetime | None = None) -> PageVisit:
        """Open the page, or look at it again."""
        visit = self.parts.visit_page.open(
            self.link, browser=self.browser, embedded=False, address=None, now=now or clock.now()
        )
        self.browser = visit.browser
        return visit

    def send(self, number: str | None = None) -> None:
        """Request a code, and send it."""
        self.parts.visit_page.send_code(
            self.open(),
            phone_number=number,
            country=None,
            channel=Channel.SMS,
            language="en",
            address=None,
            now=clock.now(),
        )
        self.parts.pump.run()

    def enter(self, code: str | None = None, number: str = NUMBER) -> None:
        """Enter the code."""
        code = code or self.provider.code(number)
        self.parts.visit_page.check_code(self.open(), code, address=None, now=clock.now())

    def token(self) -> str:
        """Return to the client with a token."""
        token = self.parts.visit_page.issue_token(self.open(), now=clock.now())
        assert token is not None
        return token

    def redeem(self, token: str, *, client_id: UUID | None = None) -> str:
        """Redeem a token; return the number."""
        return self.parts.redeem_page(token, client_id=client_id or self.client_id, now=clock.now()).e164


@pytest.fixture
def visitor(parts: Parts, client_id: UUID, provider: Provider) -> Visitor:
    """Return a visitor."""
    return Visitor(parts, client_id, provider)


def test_one_of_many_browsers_gets_the_page(visitor: Visitor) -> None:
    """Of browsers that open a link at the same moment one owns the page, and the others see nothing."""
    visitor.create(phone_number=NUMBER)

    def open_page() -> str:
        try:
            return visitor.parts.visit_page.open(
                visitor.link, browser=None, embedded=False, address=None, now=clock.now()
            ).browser
        except ForeignBrowser:
            return ""

    secrets = at_once([open_page] * 12)

    (owner,) = [one for one in secrets if one]
    visitor.browser = owner
    assert visitor.open().stage is PageStage.CONFIRM


def test_one_of_many_redemptions_gets_the_result(visitor: Visitor) -> None:
    """A token that is redeemed many times at once is redeemed once."""
    visitor.create(phone_number=NUMBER)
    visitor.send()
    visitor.enter()
    token = visitor.token()

    def redeem() -> str:
        try:
            return visitor.redeem(token)
        except VerificationTokenInvalid:
            return ""

    assert sorted(at_once([redeem] * 12)) == [""] * 11 + [NUMBER]
    assert visitor.open().stage is PageStage.REDEEMED
    assert visitor.parts.visit_page.issue_token(visitor.open(), now=clock.now()) is None


def test_nothing_is_redeemed_before_the_code(visitor: Visitor) -> None:
    """A page without a correct code gives no token, and none is valid."""
    visitor.create(phone_number=NUMBER)
    visitor.send()

    assert visitor.open().stage is PageStage.CODE
    assert visitor.parts.visit_page.issue_token(visitor.open(), now=clock.now()) is None
    with pytest.raises(VerificationTokenInvalid):
        visitor.redeem(visitor.link)


def test_two_clicks_send_one_code(visitor: Visitor, rows: Rows) -> None:
    """A second form while the page has a live request changes nothing."""
    visitor.create(phone_number=NUMBER)
    visitor.send()
    visitor.send()

    (request,) = rows.requests()
    assert (request["status"], request["sends"]) == ("sent", 1)


def test_correct_code_survives_a_lost_answer(visitor: Visitor) -> None:
    """The page is verified when its request is: a code that was accepted twice leads to the same end."""
    visitor.create(phone_number=NUMBER)
    visitor.send()
    code = visitor.provider.code(NUMBER)
    visitor.enter(code)
    visitor.enter(code)

    assert visitor.redeem(visitor.token()) == NUMBER


def test_page_outlives_its_link_for_the_token(visitor: Visitor, rows: Rows) -> None:
    """A code entered in the last second still leads back: the page lives as long as its token."""
    created = visitor.create(phone_number=NUMBER)
    visitor.send()
    visitor.enter()
    (request,) = rows.requests()
    late = created.expires_at - timedelta(seconds=1)
    rows.change(request["id"], verified_at=late)

    visitor.parts.visit_page.issue_token(visitor.open(now=late), now=late)

    assert visitor.open(now=late + timedelta(seconds=299)).stage is PageStage.VERIFIED
    with pytest.raises(PageNotAvailable):
        visitor.open(now=late + timedelta(seconds=301))


@pytest.mark.parametrize("primary", ["before", "after"])
def test_pages_survive_a_rotation_of_the_hash_key(
    visitor: Visitor, make_parts: MakeParts, primary: str
) -> None:
    """Link, cookie and token work with the previous key; the report counts open pages until they expire."""
    keys = f"{OLD},{NEW}" if primary == "before" else f"{NEW},{OLD}"
    visitor.create(phone_number=NUMBER)
    visitor.send()
    visitor.parts = make_parts(OTPQUEUE_HASH_KEY=keys, **NO_LIMITS)
    visitor.enter()
    token = visitor.token()

    report = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}").rotate_hash(progress=silent)

    uses = {use.what: use for use in report.uses}
    assert uses["verification pages"].rows == 1
    assert uses["verification pages"].until is not None
    assert report.numbers["verification_pages"] == 0
    visitor.parts = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    assert visitor.redeem(token) == NUMBER


def test_numbers_of_pages_are_sealed_again(visitor: Visitor, make_parts: MakeParts) -> None:
    """A page's number moves to the new sealing key, before any request."""
    visitor.create(phone_number=NUMBER)
    rotated = make_parts(OTPQUEUE_SEAL_KEYS=f"{K2},{K1}")

    assert rotated.rotate_seal.report().counts == {"k1": 1}
    assert rotated.rotate_seal(progress=silent).removable == ("k1",)
    visitor.parts = make_parts(OTPQUEUE_SEAL_KEYS=K2)
    visitor.send()
    visitor.enter()
    assert visitor.redeem(visitor.token()) == NUMBER


def test_pages_of_a_lost_key_are_dropped(visitor: Visitor, make_parts: MakeParts) -> None:
    """A page with a number that can no longer be read is deleted; a page without a number stays."""
    visitor.create()
    kept = visitor.link
    visitor.create(phone_number=NUMBER)
    without = make_parts(OTPQUEUE_SEAL_KEYS=K2)

    assert without.rotate_seal.missing() == {"k1": 1}
    without.rotate_seal.drop("k1")

    assert without.rotate_seal.missing() == {}
    with pytest.raises(PageNotAvailable):
        visitor.open()
    visitor.link = kept
    assert visitor.open().stage is PageStage.NUMBER


def test_unknown_numbers_of_a_hash_key_are_dropped(visitor: Visitor, make_parts: MakeParts) -> None:
    """A page with a number under a lost hash key does not keep the sealed number."""
    visitor.create(phone_number=NUMBER)
    lost = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}", OTPQUEUE_SEAL_KEYS=K2)

    report = lost.rotate_hash(progress=silent, drop_unknown=True)

    assert report.numbers["verification_pages"] == 0
    assert lost.rotate_seal.report().counts == {}


def test_erasure_during_a_visit(visitor: Visitor) -> None:
    """The page of an erased number is gone, whether the client or the person gave the number."""
    for given in (NUMBER, None):
        visitor.browser = None
        visitor.create(phone_number=given)
        visitor.send(NUMBER)

        counts = visitor.parts.erase(NUMBER, country=None, client_id=None, now=clock.now())

        assert counts["verification_pages"] == 1
        with pytest.raises(PageNotAvailable):
            visitor.open()


def test_expired_pages_are_purged(visitor: Visitor) -> None:
    """A page is deleted after it has expired; its request stays for its own time."""
    created = visitor.create(phone_number=NUMBER)
    visitor.send()

    early = visitor.parts.purge(now=created.expires_at - timedelta(seconds=1))
    late = visitor.parts.purge(now=created.expires_at + timedelta(seconds=1))

    assert (early["verification_pages"], late["verification_pages"]) == (0, 1)
    assert late["otp_requests"] == 0


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"phone_number": "123"}, InvalidRequest),
        ({"phone_number": "07700 900123"}, InvalidRequest),
        ({"return_url": "https://evil.example/done"}, ReturnUrlNotRegistered),
    ],
)
def test_page_that_cannot_be_created(
    visitor: Visitor, wanted: dict[str, str], error: type[OtpqueueError]
) -> None:
    """What is not valid is rejected before anything is stored or counted."""
    visitor.create()

    with pytest.raises(error):
        visitor.parts.create_page(
            WantedPage(**{"return_url": RETURN_URL} | wanted), client_id=visitor.client_id, now=clock.now()
        )
