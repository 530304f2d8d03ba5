"""Create, serve and redeem hosted verification pages."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from otpqueue import policies
from otpqueue.operations.verification_pages.create import CreateVerificationPage
from otpqueue.operations.verification_pages.find import FindPage
from otpqueue.operations.verification_pages.limits import PageLimits
from otpqueue.operations.verification_pages.redeem import RedeemVerificationToken
from otpqueue.operations.verification_pages.visit import VisitVerificationPage
from otpqueue.wiring.codes import CodeParts


class PageParts(CodeParts):
    """The operations on a page. They use those on codes."""

    @cached_property
    def page_limits(self) -> PageLimits:
        """Counts verification pages and what is done on them."""
        return PageLimits(limiter=self.limiter, vault=self.vault, quotas=policies.quotas(self.settings))

    @cached_property
    def create_page(self) -> CreateVerificationPage:
        """Creates verification pages."""
        return CreateVerificationPage(
            engine=self.engine,
            vault=self.vault,
            access=self.access,
            limits=self.page_limits,
            lifetime=timedelta(seconds=self.settings.page_lifetime_s),
        )

    @cached_property
    def visit_page(self) -> VisitVerificationPage:
        """Serves visitors of verification pages."""
        return VisitVerificationPage(
            engine=self.engine,
            vault=self.vault,
            access=self.access,
            limits=self.page_limits,
            request=self.request,
            resend=self.resend,
            verify=self.verify,
            cancel=self.cancel,
            token_lifetime=timedelta(seconds=self.settings.page_token_s),
        )

    @cached_property
    def find_page(self) -> FindPage:
        """Reads verification pages."""
        return FindPage(engine=self.engine, vault=self.vault)

    @cached_property
    def redeem_page(self) -> RedeemVerificationToken:
        """Redeems the tokens of verified pages."""
        return RedeemVerificationToken(engine=self.engine, vault=self.vault)
