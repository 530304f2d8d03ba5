"""`/v1/phone-numbers/erase`: for operators, since it concerns every client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, create_model

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import NumberToErase
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ResponseModel
from otpqueue.domain.errors import InvalidPhoneNumber
from otpqueue.operations.privacy.erase import EraseNumber
from otpqueue.store.privacy.erasing import COUNTED

_FIELDS: dict[str, Any] = dict.fromkeys(COUNTED, Annotated[int, Field(ge=0)])
ErasedResponse: type[ResponseModel] = create_model(
    "ErasedResponse", __base__=ResponseModel, __doc__="How many rows of each kind were erased.", **_FIELDS
)


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """`/v1/phone-numbers/erase`."""

    authentication: ApiKeyAuthentication
    erase: EraseNumber

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/phone-numbers/erase",
            operation_id="eraseNumber",
            tag=tags.PRIVACY,
            summary="Erase a phone number (for operators)",
            description="Erases all data about a number, of every client, in one transaction. The answer "
            "has the number of rows of each kind. Live requests of the number end first; none of its "
            "requests can be found afterwards. Idempotent: a second call erases nothing. "
            "[docs/privacy.md](/docs/privacy) says what Infobip keeps.",
            successes={200: Success(description="Erased", model=ErasedResponse)},
            errors=(InvalidPhoneNumber,),
            scopes=("admin",),
            body=NumberToErase,
        )
    )
    def on_post(self, call: ApiCall, body: NumberToErase) -> BaseModel:
        """Erase all data about a number."""
        counts = self.erase(
            body.phone_number, country=body.country, client_id=call.client_id, now=clock.now()
        )
        return ErasedResponse(**counts)
