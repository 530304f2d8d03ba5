"""The resources of the API, and their endpoints: the source of routes, OpenAPI document and docs page."""

from __future__ import annotations

from otpqueue.api.endpoints import ApiEndpoint, find_endpoints
from otpqueue.api.guide.resources import RequestOtp, VerifyOtp
from otpqueue.api.resources.alerts import Acknowledgement, Alerts, Silencing
from otpqueue.api.resources.audit import AuditByNumber, AuditEntries, Erasures
from otpqueue.api.resources.health import Health
from otpqueue.api.resources.history import RequestHistory
from otpqueue.api.resources.metrics import Metrics
from otpqueue.api.resources.numbers import Erasure
from otpqueue.api.resources.receipts import Receipts
from otpqueue.api.resources.requests import OneOtpRequest, OtpRequests, Resending, Verification
from otpqueue.api.resources.search import SearchByNumber
from otpqueue.api.resources.stats import Statistics
from otpqueue.api.resources.verification_pages import TokenRedemption, VerificationPages

RESOURCES: tuple[type, ...] = (
    OtpRequests,
    SearchByNumber,
    OneOtpRequest,
    Verification,
    Resending,
    VerificationPages,
    TokenRedemption,
    RequestHistory,
    Erasure,
    Statistics,
    Alerts,
    Acknowledgement,
    Silencing,
    AuditEntries,
    AuditByNumber,
    Erasures,
    Receipts,
    RequestOtp,
    VerifyOtp,
    Health,
    Metrics,
)
"""In the order of the docs page."""

ENDPOINTS: tuple[ApiEndpoint, ...] = tuple(
    endpoint for resource in RESOURCES for _, endpoint in find_endpoints(resource)
)
