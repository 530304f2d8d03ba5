"""The OpenAPI document, generated from the endpoints, the models and the errors."""

from otpqueue.api.openapi.document import build

__all__ = ["build"]
