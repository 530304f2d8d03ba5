"""`/v1/otp-requests/search`: the requests for a number. The number is in the body, since URLs are logged."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import SearchQuery, SearchWanted
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import FoundRequestResponse, FoundResponse
from otpqueue.domain.errors import InvalidPhoneNumber, NumberNotAllowed
from otpqueue.domain.search import SearchFilters
from otpqueue.operations.search import SearchRequests


def find_requests(
    search: SearchRequests, wanted: SearchQuery | SearchWanted, *, number: str | None = None, reader: UUID
) -> FoundResponse:
    """Return a page of requests for an operator. Raises InvalidRequest, DatabaseUnavailable."""
    filters = SearchFilters(
        phone_number=number,
        status=wanted.status,
        created_after=wanted.created_after,
        created_before=wanted.created_before,
        client=wanted.client,
    )
    page = search(filters, reader=reader, cursor=wanted.cursor, limit=wanted.limit)
    return FoundResponse(
        requests=[FoundRequestResponse.of(one.request, client=one.client) for one in page.found],
        next_cursor=page.next_cursor,
    )


@dataclass(frozen=True, kw_only=True)
class SearchByNumber:
    """`/v1/otp-requests/search`."""

    authentication: ApiKeyAuthentication
    search: SearchRequests

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/otp-requests/search",
            operation_id="searchRequests",
            tag=tags.REQUESTS,
            summary="Search requests by phone number (for operators)",
            description="As the list of requests, for one number. The number is in the body, since URLs are "
            "logged.",
            successes={200: Success(description="A page of requests", model=FoundResponse)},
            errors=(InvalidPhoneNumber, NumberNotAllowed),
            scopes=("admin",),
            body=SearchWanted,
        )
    )
    def on_post(self, call: ApiCall, body: SearchWanted) -> FoundResponse:
        """Search requests."""
        return find_requests(self.search, body, number=body.phone_number, reader=call.client_id)
