"""The hosted page without a script: the whole way of a person, and all ways that must lead nowhere."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.page_settings import LANGUAGES
from otpqueue.operations.verification_pages.visit import VisitVerificationPage
from otpqueue.store import verification_pages
from otpqueue.store.engine import connection
from tests.api.conftest import Caller, MakeCaller, wrong
from tests.api.persons import RETURN_URL, Person, create, path_of, redeem, register

GONE, FOREIGN = "This link does not work", "This link belongs to another browser"


def code_of(caller: Caller, number: str | None = None) -> str:
    """Send what is due, and return the code that the number got."""
    caller.parts.pump.run()
    return caller.provider.code(number or caller.number)


def token_in(person: Person) -> str:
    """Return the token in the URL at which the person is."""
    return parse_qs(urlsplit(person.place).query)["verification_token"][0]


def verify(caller: Caller, person: Person, url: str) -> str:
    """Verify the number of a page that has one; return the token."""
    person.open(url)
    person.submit("send", channel="sms")
    code = code_of(caller)
    person.open(url)
    person.submit("code", code=code)
    return token_in(person)


def test_person_gives_number_and_returns_verified(caller: Caller) -> None:
    """The whole way: national number, code, return with state and token, and the result that is redeemed."""
    register(caller)
    person = Person(caller.app)
    url = create(caller, state="state of the session", client_reference="order 7")

    first = person.open(url)
    assert "Verify your phone number" in first.text
    assert '<option value="GB" selected>United Kingdom (+44)</option>' in person.html
    waiting = person.submit("send", country="GB", number=f"0{caller.number[3:]}", channel="sms")
    assert "is being sent" in waiting.text
    code = code_of(caller)
    page = person.open(url)
    assert "was sent to +44********" in page.text
    assert caller.number[-4:] not in page.text
    assert "You have 5 attempts left." in page.text
    person.submit("code", code=f"{code[:3]} {code[3:]}")

    back = urlsplit(person.place)
    assert f"{back.scheme}://{back.netloc}{back.path}" == RETURN_URL
    assert parse_qs(back.query)["state"] == ["state of the session"]
    answer = redeem(caller, token_in(person))
    assert answer.status_code == 200, answer.text
    assert answer.json["phone_number"] == caller.number
    assert (answer.json["state"], answer.json["client_reference"]) == ("state of the session", "order 7")
    stored = caller.get(f"/v1/otp-requests/{answer.json['otp_request_id']}").json
    assert (stored["status"], stored["verified_at"]) == ("verified", answer.json["verified_at"])
    assert person.open(url).text.count("Your number is verified") == 2


def test_number_of_the_client_is_masked_and_fixed(caller: Caller) -> None:
    """The person sees the client's number masked, and cannot verify another."""
    register(caller)
    person = Person(caller.app)
    url = create(caller, phone_number=caller.number)

    page = person.open(url)
    assert f"{caller.number[:3]}********{caller.number[-2:]}" in page.text
    assert caller.number[3:] not in person.html
    person.submit("send", channel="sms", number="+447700900999", country="GB")
    assert "another number" not in person.open(url).text
    code = code_of(caller)
    person.open(url)
    person.submit("code", code=code)

    assert redeem(caller, token_in(person)).json["phone_number"] == caller.number


def test_token_is_redeemed_once_by_its_client_alone(caller: Caller) -> None:
    """Unknown, foreign and used tokens are answered alike; a foreign try does not use a token up."""
    register(caller)
    token = verify(caller, Person(caller.app), create(caller, phone_number=caller.number))
    own, caller.key = caller.key, caller.new_key("verify", client=f"{caller.client}-other")

    foreign = redeem(caller, token)
    caller.key = own
    first, second, unknown = redeem(caller, token), redeem(caller, token), redeem(caller, "x" * 43)

    assert (first.status_code, first.json["phone_number"]) == (200, caller.number)
    refused = [foreign, second, unknown]
    assert [one.status_code for one in refused] == [404] * 3
    assert {one.text for one in refused} == {foreign.text}
    assert foreign.json["code"] == "verification_token_invalid"


def test_only_the_newest_token_works(caller: Caller) -> None:
    """Reloading the page returns with a new token; the earlier one is void."""
    register(caller)
    person, url = Person(caller.app), create(caller, phone_number=caller.number)
    older = verify(caller, person, url)

    person.open(url)

    assert redeem(caller, older).status_code == 404
    assert redeem(caller, token_in(person)).status_code == 200


def test_token_expires(caller: Caller) -> None:
    """A token that is too old is not redeemed."""
    register(caller)
    token = verify(caller, Person(caller.app), create(caller, phone_number=caller.number))
    caller.execute(
        "UPDATE verification_pages SET token_expires_at = now() WHERE client_id = :c", c=caller.client_id
    )

    assert redeem(caller, token).status_code == 404


def test_stolen_link_shows_and_verifies_nothing(caller: Caller) -> None:
    """After one browser opened a link, another one gets nowhere with it: not even with the right code."""
    register(caller)
    person, thief = Person(caller.app), Person(caller.app, address="203.0.113.66")
    url = create(caller, phone_number=caller.number)
    person.open(url)
    person.submit("send", channel="sms")
    code = code_of(caller)
    person.open(url)
    form = person.html
    token = re.search(r'name="token" value="(\w+)"', form)[1]  # type: ignore[index]

    seen = thief.open(url)
    assert thief.status == 403
    assert FOREIGN in seen.text
    assert caller.client not in seen.text
    assert not thief.cookies
    assert thief.request("GET", f"{path_of(url)}/state").json == {"stage": "gone"}
    forged = [
        {},
        dict.fromkeys(person.cookies, "A" * 43),
        dict.fromkeys(person.cookies, f"{'A' * 43}.{token}"),
    ]
    for cookies in forged:
        thief.cookies = cookies
        answer = thief.request(
            "POST",
            f"{path_of(url)}/code",
            body=f"token={token}&code={code}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 403
    assert caller.stored("verification_pages", "token_hash") == [(None,)]
    assert (
        caller.execute(
            "SELECT count(*) FROM checks AS c JOIN otp_requests AS r ON r.id = c.request_id "
            "WHERE r.client_id = :c",
            c=caller.client_id,
        )[0][0]
        == 0
    )
    person.submit("code", code=code)
    assert redeem(caller, token_in(person)).status_code == 200


def test_code_of_a_page_cannot_be_checked_without_its_browser(caller: Caller) -> None:
    """The request is bound to the browser's secret: the client itself cannot check its code by the API."""
    register(caller)
    person, url = Person(caller.app), create(caller, phone_number=caller.number)
    person.open(url)
    person.submit("send", channel="sms")
    code = code_of(caller)
    ((request_id,),) = caller.stored("otp_requests", "id")

    answer = caller.verify(f"/v1/otp-requests/{request_id}", code)

    assert (answer.status_code, answer.json["code"]) == (422, "code_incorrect")


def test_expired_and_unknown_links(caller: Caller) -> None:
    """A link that has expired looks like one that never was."""
    register(caller)
    person, url = Person(caller.app), create(caller)
    person.open(url)
    caller.execute(
        "UPDATE verification_pages SET expires_at = now() WHERE client_id = :c", c=caller.client_id
    )

    pages = [person.open(one).text for one in (url, "/verify/" + "A" * 43, "/verify/short")]

    assert len(set(pages)) == 1
    assert GONE in pages[0]
    assert person.status == 404


def test_form_of_another_site_is_refused(caller: Caller) -> None:
    """Without the page's own token, or sent from another site, a form does nothing."""
    register(caller)
    person, url = Person(caller.app), create(caller, phone_number=caller.number)
    person.open(url)
    token = re.search(r'name="token" value="(\w+)"', person.html)[1]  # type: ignore[index]
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    tries = [
        person.request("POST", f"{path_of(url)}/send", body="channel=sms", headers=form),
        person.request("POST", f"{path_of(url)}/send", body=f"channel=sms&token={token[::-1]}", headers=form),
        person.request(
            "POST",
            f"{path_of(url)}/send",
            body=f"channel=sms&token={token}",
            headers=form | {"Sec-Fetch-Site": "cross-site"},
        ),
    ]

    assert [one.status_code for one in tries] == [403] * 3
    assert all("Nothing was changed" in one.text for one in tries)
    assert caller.stored("otp_requests") == []


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/other",
        "https://shop.example.evil.example/login/done",
        "https://shop.example@evil.example/login/done",
        "http://shop.example/login/done",
        "https://shop.example:8443/login/done",
        "https://shop.example/login/../other",
        "https://shop.example/login/%2e%2e/other",
        "https://shop.example\\@evil.example/login/",
        "//shop.example/login/done",
        "https://shop.example/login/done#fragment",
        "javascript:alert(1)//login/",
        "https://shop.example/login/done\n",
    ],
)
def test_no_open_redirect(caller: Caller, url: str) -> None:
    """A return URL that is not registered, or that browsers may read differently, is rejected."""
    register(caller)

    answer = caller.post("/v1/verification-pages", json={"return_url": url})

    assert (answer.status_code, answer.json["code"]) == (400, "return_url_not_registered")
    assert answer.json["errors"][0]["field"] == "return_url"


def test_nothing_registered(caller: Caller) -> None:
    """A client without return URLs has no pages."""
    answer = caller.post("/v1/verification-pages", json={"return_url": RETURN_URL})

    assert (answer.status_code, answer.json["code"]) == (400, "return_url_not_registered")


def test_bad_number_stays_in_the_form_and_out_of_the_url(caller: Caller) -> None:
    """A number that is not valid is shown again beside the error; no URL contains it."""
    register(caller)
    person, url = Person(caller.app), create(caller)
    person.open(url)

    page = person.submit("send", country="GB", number="077009", channel="sms")

    assert person.status == 422
    assert "Error: Enter a valid phone number" in page.text
    assert 'value="077009"' in person.html
    assert "077009" not in person.place


def test_wrong_code_lock_and_start_again(caller: Caller) -> None:
    """Wrong codes count down to the lock; then the person starts again with a new code."""
    register(caller)
    person, url = Person(caller.app), create(caller, phone_number=caller.number)
    person.open(url)
    person.submit("send", channel="sms")
    code = code_of(caller)
    person.open(url)

    unreadable = person.submit("code", code="12")
    assert "Enter the six digits" in unreadable.text
    assert "You have 5 attempts left." in unreadable.text
    pages = [person.submit("code", code=wrong(code)).text for _ in range(5)]
    assert "This code is not correct. " in pages[0]
    assert "You have 4 attempts left." in pages[0]
    assert "You have 1 attempt left." in pages[3]
    assert "Too many wrong codes were entered." in pages[4]

    person.submit("again")
    person.submit("send", channel="sms")
    code = code_of(caller)
    person.open(url)
    person.submit("code", code=code)
    assert redeem(caller, token_in(person)).status_code == 200


def test_resend_waits_and_changes_the_channel(caller: Caller) -> None:
    """A resend too early says how long to wait; later the code is read out."""
    register(caller)
    person, url = Person(caller.app), create(caller)
    person.open(url)
    person.submit("send", country="GB", number=caller.number, channel="sms")
    code_of(caller)
    page = person.open(url)
    assert re.search(r"You can request the code again in (30|29|28) seconds", page.text)

    early = person.submit("resend", channel="voice")
    assert re.search(r"Wait (30|29|28|27) seconds before you request the code again", early.text)
    caller.execute("UPDATE otp_requests SET resend_after = now() WHERE client_id = :c", c=caller.client_id)
    pending = person.submit("resend", channel="voice")
    assert "is being sent again" in pending.text
    caller.parts.pump.run()

    assert "We are calling +44********" in person.open(url).text


def test_another_number(caller: Caller) -> None:
    """The person who mistyped cancels the request and gives another number."""
    register(caller)
    person, url = Person(caller.app), create(caller)
    person.open(url)
    person.submit("send", country="GB", number="+447700900998", channel="sms")
    caller.parts.pump.run()
    person.open(url)

    page = person.submit("again")
    assert "Phone number" in page.text
    person.submit("send", country="GB", number=caller.number, channel="sms")
    code = code_of(caller)
    person.open(url)
    person.submit("code", code=code)

    assert redeem(caller, token_in(person)).json["phone_number"] == caller.number
    assert sorted(status for (status,) in caller.stored("otp_requests", "status")) == [
        "cancelled",
        "verified",
    ]


def test_limits_of_requests_apply(caller: Caller) -> None:
    """A page sends no more codes to a number than the API does."""
    register(caller)
    person = Person(caller.app)
    pages = []
    for _ in range(4):
        person.open(create(caller, phone_number=caller.number))
        pages.append(person.submit("send", channel="sms").text)

    assert "is being sent" in pages[2]
    assert re.search(r"Too many attempts. Try again in 1[45] minutes", pages[3])


def test_limits_of_pages(make_caller: MakeCaller) -> None:
    """A client has a limit of pages, an address one of what it does on pages."""
    caller = make_caller(OTPQUEUE_LIMIT_PAGES="3/h", OTPQUEUE_LIMIT_PAGE_PEER="2/h")
    register(caller)
    urls = [create(caller) for _ in range(3)]
    person = Person(caller.app)

    refused = caller.post("/v1/verification-pages", json={"return_url": RETURN_URL})
    texts = [person.open(url).text for url in urls]

    assert (refused.status_code, refused.json["limit"]) == (429, "pages")
    assert person.status == 429
    assert "Too many attempts" in texts[2]
    # A page that is open can still be read.
    assert "Verify your phone number" in person.open(urls[0]).text
    assert "Verify your phone number" in Person(caller.app, address="203.0.113.8").open(urls[2]).text


def test_limit_of_requests_on_one_page(make_caller: MakeCaller) -> None:
    """One page cannot be used to send codes to any number of numbers, from whatever addresses."""
    caller = make_caller(OTPQUEUE_LIMIT_PAGE_REQUESTS="2/d")
    register(caller)
    person, url = Person(caller.app), create(caller)
    person.open(url)
    for last in range(3):
        person.address, number = f"198.51.100.{last}", f"+44770090010{last}"
        page = person.submit("send", country="GB", number=number)
        if last < 2:
            code_of(caller, number)
            person.open(url)
            person.submit("again")

    assert "Too many attempts. Try again in 24 hours" in page.text
    assert caller.provider.messages(number) == []
    other = Person(caller.app)
    other.open(create(caller))
    assert "is being sent" in other.submit("send", country="GB", number=number).text


def test_page_keeps_the_request_that_was_not_replaced(caller: Caller) -> None:
    """Of two requests of one page at once, the newer one may be the replaced one."""
    register(caller)
    person, parts = Person(caller.app), caller.parts
    for _ in range(2):
        person.open(create(caller, phone_number=caller.number))
        person.submit("send", channel="sms")
    with connection(parts.engine) as conn:
        pages = conn.execute(text("SELECT id, request_id FROM verification_pages ORDER BY id")).all()
    (page_id, live), (_, replaced) = pages[-2:]
    parts.cancel(replaced, client_id=caller.client_id, now=clock.now())

    kept = []
    for request_ids in ((replaced, live), (live, replaced)):
        with connection(parts.engine) as conn:
            conn.execute(
                text("UPDATE verification_pages SET request_id = NULL WHERE id = :id"), {"id": page_id}
            )
            for request_id in request_ids:
                verification_pages.set_request(conn, page_id, request_id)
            of_page = text("SELECT request_id FROM verification_pages WHERE id = :id")
            kept.append(conn.execute(of_page, {"id": page_id}).scalar_one())

    assert live < replaced
    assert kept == [live, live]


def test_prefetch_does_not_take_the_link(caller: Caller) -> None:
    """A browser that loads the page before the person asks for it does not own it."""
    register(caller)
    url = create(caller)

    Person(caller.app).open(url, headers={"Sec-Purpose": "prefetch;prerender"})
    head = Person(caller.app).request("HEAD", path_of(url))

    assert head.status_code == 405
    assert "Verify your phone number" in Person(caller.app).open(url).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages(caller: Caller, language: str) -> None:
    """The page follows the browser's language, has its texts, and a link to each other one."""
    register(caller, **{f"heading.{language}": "Our <own> heading"})
    person = Person(caller.app, **{"Accept-Language": f"xx, {language}-CH;q=0.8, en;q=0.1"})

    page = person.open(create(caller))

    html = person.html
    assert f'<html lang="{language}">' in html
    assert "Our &lt;own&gt; heading" in html
    assert '<option value="CH" selected>' in html
    assert {given["hreflang"] for tag, given in page.attributes if "hreflang" in given} == set(LANGUAGES)
    other = "fr" if language != "fr" else "de"
    person.open(f"{person.place}?lang={other}")
    assert f'<html lang="{other}">' in person.html
    person.submit("send", country="GB", number=caller.number, channel="sms")
    assert person.place.endswith(f"?lang={other}")
    assert caller.stored("otp_requests", "language") == [(other,)]


def test_client_chooses_languages(caller: Caller) -> None:
    """The language of the page is the client's; the message has a language that the client allows."""
    caller.parts.clients.set(caller.client, "languages", "it")
    register(caller, languages="de,it")
    person = Person(caller.app, **{"Accept-Language": "fr"})
    german, refused = (
        create(caller),
        caller.post("/v1/verification-pages", json={"return_url": RETURN_URL, "language": "de"}),
    )

    person.open(german)
    assert '<html lang="de">' in person.html
    person.submit("send", country="GB", number=caller.number, channel="sms")
    assert caller.stored("otp_requests", "language") == [(None,)]
    assert refused.json["errors"][0]["field"] == "language"
    person.open(create(caller, language="it"))
    assert '<html lang="it">' in person.html


def test_countries_of_the_client(caller: Caller) -> None:
    """The picker has the countries to which the client may send."""
    caller.parts.clients.set(caller.client, "countries_allowed", "GB,DE")
    register(caller)
    person = Person(caller.app)

    person.open(create(caller))

    offered = re.findall(r'<option value="(\w+)"', person.html)
    assert offered == ["DE", "GB"]


def test_security_headers(caller: Caller) -> None:
    """Nothing inline, no referrer, no frame; forms go to this host and the return URL's alone."""
    register(caller, logo="https://cdn.example/logo.png")
    person = Person(caller.app)

    page = person.open(create(caller))

    headers = person.last.headers
    policy = dict(one.strip().split(" ", 1) for one in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["img-src"] == "'self' https://cdn.example"
    assert policy["form-action"] == "'self' https://shop.example"
    assert policy["frame-ancestors"] == "'none'"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    names = {name for _, given in page.attributes for name in given}
    assert "style" not in names
    assert not [name for name in names if name.startswith("on")]
    (cookie,) = person.last.cookies.values()
    assert (cookie.http_only, cookie.same_site, cookie.path) == (True, "Lax", "/")


def test_cookie_by_https(caller: Caller) -> None:
    """Over HTTPS the cookie belongs to this host; an embedded page's is also sent inside another site."""
    register(caller, origins="https://shop.example")

    headers = []
    for query in ("", "?embed=1"):
        answer = Person(caller.app).request("GET", path_of(create(caller)) + query, protocol="https")
        headers.append(answer.headers["Set-Cookie"])

    assert all(one.startswith("__Host-otpqueue_page_") for one in headers)
    assert all("Secure" in one and "HttpOnly" in one for one in headers)
    assert "SameSite=Lax" in headers[0]
    assert "SameSite=None" in headers[1]
    assert "Partitioned" in headers[1]


def test_cookie_of_an_embedded_page_on_this_machine(caller: Caller) -> None:
    """By plain HTTP, a page inside another site of this machine gets such a cookie if the browser says so."""
    register(caller, origins="http://localhost:9000")
    found = {}
    for host in ("127.0.0.1", "otp.example"):
        for site in ("cross-site", "same-origin"):
            headers = {"Host": host, "Sec-Fetch-Site": site}
            answer = Person(caller.app).request("GET", f"{path_of(create(caller))}?embed=1", headers=headers)
            found[host, site] = "SameSite=None" in answer.headers["Set-Cookie"]
            assert ("Secure" in answer.headers["Set-Cookie"]) == found[host, site]

    assert [key for key, is_for_other_sites in found.items() if is_for_other_sites] == [
        ("127.0.0.1", "cross-site")
    ]


def test_embedding_is_by_client(caller: Caller) -> None:
    """Registered sites may frame the page and load the component; the result goes to them alone."""
    register(caller, origins="https://shop.example,https://www.shop.example")
    person, url = Person(caller.app), create(caller, phone_number=caller.number, state="s")
    person.open(f"{url}?embed=1")
    policy = person.last.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self' https://shop.example https://www.shop.example" in policy
    assert "X-Frame-Options" not in person.last.headers
    person.submit("send", channel="sms")
    code = code_of(caller)
    person.open(url)
    page = person.submit("code", code=code)

    assert person.place == path_of(url)
    (given,) = [given for tag, given in page.attributes if "data-message" in given]
    assert '"type": "otpqueue:verified"' in given["data-message"]
    (body,) = [given for tag, given in page.attributes if tag == "body"]
    assert body["data-origins"] == '["https://shop.example", "https://www.shop.example"]'
    (link,) = [given for _, given in page.attributes if given.get("class") == "button"]
    assert link["href"].startswith(f"{RETURN_URL}?verification_token=")
    assert redeem(caller, parse_qs(urlsplit(link["href"]).query)["verification_token"][0]).status_code == 200


def test_component_is_for_registered_sites(caller: Caller) -> None:
    """CORS is off, but for the sites of clients and the page's own files."""
    register(caller, origins="https://embedding.example")
    path = "/verify/assets/otpqueue-verify.js"

    answers = {
        origin: Person(caller.app)
        .request("GET", path, headers={"Origin": origin})
        .headers.get("Access-Control-Allow-Origin")
        for origin in ("https://embedding.example", "https://other.example", "null")
    }

    assert answers == {
        "https://embedding.example": "https://embedding.example",
        "https://other.example": None,
        "null": None,
    }
    page = caller.post(
        "/v1/verification-pages",
        json={"return_url": RETURN_URL},
        headers={"Origin": "https://embedding.example"},
    )
    assert "Access-Control-Allow-Origin" not in page.headers


def test_brand(caller: Caller) -> None:
    """Name, uploaded logo and colour are the client's; the colour is adapted until it can be read."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    register(caller, name="Shop & Co", logo=f"data:image/png;base64,{pixel}", colour="#ffff00")
    person = Person(caller.app)

    page = person.open(create(caller))
    files = {
        given.get("src", given.get("href", ""))
        for _, given in page.attributes
        if "theme.css" in str(given) or "logo" in str(given)
    }
    found = {
        urlsplit(one).path.rpartition("/")[2]: person.request("GET", urlsplit(one).path) for one in files
    }

    assert "Shop & Co will send a code" in page.text
    assert found["logo"].headers["Content-Type"] == "image/png"
    assert found["logo"].content.startswith(b"\x89PNG")
    assert "--accent: #7a7a00; --on-accent: #ffffff" in found["theme.css"].text
    assert "--accent: #ffff00; --on-accent: #101418" in found["theme.css"].text


def test_outages(make_caller: MakeCaller, nowhere: str) -> None:
    """Without Redis no page is created and no code is sent, but a code that was sent can be checked."""
    caller = make_caller()
    register(caller)
    person, url = Person(caller.app), create(caller, phone_number=caller.number)
    fresh = create(caller)
    person.open(url)
    person.submit("send", channel="sms")
    code = code_of(caller)
    without_redis = caller.over(make_caller(REDIS_URL=f"redis://{nowhere}/0").parts)
    person.switch_to(without_redis.app)

    refused = without_redis.post("/v1/verification-pages", json={"return_url": RETURN_URL})
    other = Person(without_redis.app)
    other.open(fresh)
    busy = other.submit("send", country="GB", number=caller.number, channel="sms")
    person.open(url)
    person.submit("code", code=code)

    assert (refused.status_code, refused.json["code"]) == (503, "limits_unavailable")
    assert "The service is busy" in busy.text
    assert redeem(without_redis, token_in(person)).status_code == 200


def test_errors_before_and_in_a_page(
    make_caller: MakeCaller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain HTTP, a form that is none and a bug are answered with a page, never with JSON."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="1")
    secure = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    register(caller)
    answer = caller.post("/v1/verification-pages", json={"return_url": RETURN_URL}, headers=secure)
    path = path_of(answer.json["url"])
    person = Person(caller.app, **secure)
    person.open(path)
    no_form = person.request("POST", f"{path}/send", body="{}", headers={"Content-Type": "application/json"})
    unknown = person.request("POST", f"{path}/delete", body="")
    person.headers = {}
    plain = person.request("GET", path)
    monkeypatch.setattr(VisitVerificationPage, "resume", lambda *_args, **_more: 1 / 0)
    person.headers = secure
    bug = person.request("GET", path)

    pages = [no_form, unknown, plain, bug]
    assert [one.status_code for one in pages] == [400, 404, 403, 500]
    assert {one.headers["Content-Type"] for one in pages} == {"text/html; charset=utf-8"}
    assert "Open this page over HTTPS" in plain.text
    assert "ZeroDivisionError" not in bug.text
    assert "internal_error" in capsys.readouterr().out
