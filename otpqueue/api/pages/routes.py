"""The route table of the hosted page."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.pages.browser import PURPOSE, PageCookies
from otpqueue.api.pages.files import HostedPageAssets, HostedPageLogo, HostedPageTheme
from otpqueue.api.pages.resources import HostedPage, HostedPageForm, HostedPageState
from otpqueue.wiring import Parts

PATH = "/verify"


def mount(app: falcon.App[Any, Any], parts: Parts, *, checks: ConcurrencyLimit) -> None:
    """Add the routes of the page. `checks` are the slots for checks of codes, shared with the API."""
    cookies = PageCookies(https_required=parts.settings.require_https, keys=parts.vault.keys_for(PURPOSE))
    visits = parts.visit_page
    page = HostedPage(visits=visits, cookies=cookies, numbers=parts.number_policy)
    app.add_route(f"{PATH}/assets/{{name}}", HostedPageAssets(access=parts.access))
    app.add_route(f"{PATH}/{{link}}", page)
    app.add_route(f"{PATH}/{{link}}/state", HostedPageState(visits=visits, cookies=cookies))
    app.add_route(f"{PATH}/{{link}}/theme.css", HostedPageTheme(visits=visits, cookies=cookies))
    app.add_route(f"{PATH}/{{link}}/logo", HostedPageLogo(visits=visits, cookies=cookies))
    app.add_route(
        f"{PATH}/{{link}}/{{action}}",
        HostedPageForm(visits=visits, cookies=cookies, page=page, checks=checks),
    )
