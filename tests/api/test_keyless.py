"""Calls without an API key: what strangers may do, how often, and that it tells them nothing of others."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from tests.api.conftest import Caller, MakeCaller, Result
from tests.conftest import NO_LIMITS

ASK, CHECK = "/request-otp", "/verify-otp"
GUARD_OFF = {"OTPQUEUE_GUARD": "off"}


@pytest.fixture
def make_stranger(make_caller: MakeCaller) -> MakeCaller:
    """Return a function that wires an API that serves calls without a key, and a caller without one."""

    def make(**differing: str) -> Caller:
        name = f"guide-{uuid4().hex}"
        stranger = make_caller(**GUARD_OFF | {"OTPQUEUE_GUIDE_CLIENT": name} | differing)
        stranger.client, stranger.key = name, None
        return stranger

    return make


def numbers(count: int) -> list[str]:
    """Return this many German mobile numbers."""
    return [f"+4915123450{last:03}" for last in range(count)]


def ask(stranger: Caller, number: str | None = None, *, peer: str = "203.0.113.7", **fields: str) -> Result:
    """Ask for a code, as the guide's front end in a browser at `peer` does."""
    body = {"phoneNumber": number or stranger.number, **fields}
    return stranger.post(ASK, json=body, remote_addr=peer)


def check(stranger: Caller, otp: str, *, peer: str = "203.0.113.7", **fields: str) -> Result:
    """Check a code, as the guide's front end in a browser at `peer` does."""
    body = {"phoneNumber": stranger.number, "otp": otp, **fields}
    return stranger.post(CHECK, json=body, remote_addr=peer)


def limits_shown(answer: Result) -> set[str]:
    """Return the names of the limits that an answer's headers tell of."""
    headers = answer.headers.get("RateLimit", "") + ", " + answer.headers.get("RateLimit-Policy", "")
    return set(re.findall(r'"([a-z0-9_]+)";', headers))


def refusals(stranger: Caller) -> list[tuple[str, int, bool]]:
    """Return why the stranger's calls were refused, how often, and whether each row names a number."""
    rows = stranger.execute(
        "SELECT reason, count, number_hash IS NOT NULL FROM refusals AS r "
        "JOIN clients AS c ON c.id = r.client_id WHERE c.name = :name ORDER BY 1, r.created_at",
        name=stranger.client,
    )
    return [tuple(row) for row in rows]


def test_first_call_makes_the_client(make_stranger: MakeCaller) -> None:
    """The client that keyless calls count as need not exist, also where access is cached."""
    assert ask(make_stranger(OTPQUEUE_TUNING_ACCESS_CACHE_S="1")).status_code == 202


def test_requests_of_one_address(make_stranger: MakeCaller) -> None:
    """An address gets ten codes in 15 minutes, whichever numbers it names; another one has its own ten."""
    stranger = make_stranger()

    answers = [ask(stranger, number) for number in numbers(30)]

    assert [one.status_code for one in answers] == [202] * 10 + [429] * 20
    assert {one.json["limit"] for one in answers[10:]} == {"client_ip_15m"}
    assert ask(stranger, numbers(31)[30], peer="203.0.113.8").status_code == 202


def test_address_is_kept_as_a_keyed_hash(make_stranger: MakeCaller) -> None:
    """The peer's address takes the place of the `client_ip` that a client's back end would name."""
    stranger = make_stranger()

    path = ask(stranger).json["statusUrl"]

    stored = "SELECT client_ip_hash FROM otp_requests WHERE id = :id"
    kept = stranger.execute(stored, id=path.rpartition("/")[2])
    assert kept[0][0] == stranger.parts.vault.address_hash("203.0.113.7")


def test_wrong_codes_of_one_address(make_stranger: MakeCaller) -> None:
    """Wrong codes count for the address that they come from, and stop its new requests."""
    stranger = make_stranger(OTPQUEUE_WRONG_CODES_CLIENT_IP="2/h")
    ask(stranger, peer="203.0.113.1")
    stranger.parts.pump.run()
    code = stranger.provider.code(stranger.number)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"

    assert [check(stranger, wrong, peer="203.0.113.2").status_code for _ in range(2)] == [400, 400]

    assert ask(stranger, numbers(1)[0], peer="203.0.113.2").json["code"] == "too_many_wrong_codes"
    assert ask(stranger, numbers(1)[0], peer="203.0.113.1").status_code == 202


@pytest.mark.parametrize(
    ("trusted", "counted"),
    [("0", "127.0.0.1"), ("1", "203.0.113.9"), ("127.0.0.0/8", "203.0.113.9"), ("2", "198.51.100.1")],
)
def test_address_behind_proxies(make_stranger: MakeCaller, trusted: str, counted: str) -> None:
    """What trusted proxies say is the address; what a stranger writes himself gives him no other one."""
    stranger = make_stranger(OTPQUEUE_TRUSTED_PROXIES=trusted)
    headers = {"X-Forwarded-For": "192.0.2.55, 198.51.100.1, 203.0.113.9"}

    answer = stranger.post(ASK, json={"phoneNumber": stranger.number}, headers=headers)

    assert answer.status_code == 202
    kept = stranger.execute(
        "SELECT client_ip_hash FROM otp_requests WHERE id = :id", id=answer.json["requestId"]
    )
    assert kept[0][0] == stranger.parts.vault.address_hash(counted)


def test_calls_of_one_address(make_stranger: MakeCaller) -> None:
    """Every call of an address counts, checks and refused calls too; others go on."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_PEER="5/m")

    answers = [check(stranger, "123456") for _ in range(4)] + [ask(stranger, "nonsense")]
    beyond = [ask(stranger), check(stranger, "123456")]

    assert {one.status_code for one in answers} == {400}
    assert {(one.status_code, one.json["limit"]) for one in beyond} == {(429, "keyless_peer")}
    assert {one.json["errorCode"] for one in beyond} == {"TOO_MANY_REQUESTS"}
    assert ask(stranger, peer="203.0.113.8").status_code == 202


@pytest.mark.parametrize(
    ("same", "another"),
    [
        (["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"], "203.0.114.1"),
        (["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:3::1", "2001:db8:1:4::1"], "2001:db8:2::1"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_calls_of_one_network(make_stranger: MakeCaller, same: list[str], another: str) -> None:
    """Who has a whole network has no more calls for it than it may make."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_NETWORK="3/m")

    answers = [check(stranger, "123456", peer=peer) for peer in same]

    assert [one.status_code for one in answers] == [400, 400, 400, 429]
    assert answers[3].json["limit"] == "keyless_network"
    assert check(stranger, "123456", peer=another).status_code == 400


def test_one_address_takes_nothing_from_the_others(make_stranger: MakeCaller) -> None:
    """What an address has too many of is not counted for the client that all strangers are."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_PEER="2/m", OTPQUEUE_LIMIT_KEY_RATE="4/m")

    flood = [check(stranger, "123456").status_code for _ in range(20)]

    assert flood == [400, 400, *[429] * 18]
    assert check(stranger, "123456", peer="198.51.100.1").status_code == 400


def test_peer_without_an_address(make_stranger: MakeCaller) -> None:
    """Calls that come from nowhere share one count: they are not beyond all limits."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_PEER="2/m")

    answers = [check(stranger, "123456", peer=peer).status_code for peer in ("unix:", "x", "unix:")]

    assert answers == [400, 400, 429]


def test_addresses_may_count_for_nothing(make_stranger: MakeCaller) -> None:
    """Where all calls come from one address, as in development, neither limit goes by it."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_PEER="off", OTPQUEUE_LIMIT_KEYLESS_NETWORK="off")

    answers = [ask(stranger, number) for number in numbers(15)]

    assert {one.status_code for one in answers} == {202}
    stored = "SELECT count(client_ip_hash) FROM otp_requests WHERE id = :id"
    assert stranger.execute(stored, id=answers[0].json["requestId"])[0][0] == 0


def test_calls_with_a_key_have_no_address(make_stranger: MakeCaller) -> None:
    """A caller with a key is a back end: its address is nobody's, and the limits of strangers are not its."""
    stranger = make_stranger(OTPQUEUE_LIMIT_KEYLESS_PEER="1/m")
    stranger.key = stranger.new_key("send", "verify")

    answers = [ask(stranger, number) for number in numbers(12)]

    assert {one.status_code for one in answers} == {202}
    assert "number_15m" in limits_shown(answers[0])


def test_headers_show_keyless_callers_only_their_own_limits(make_stranger: MakeCaller) -> None:
    """How often others asked for a number, or called at all, stands in no header of a keyless call."""
    stranger = make_stranger()
    asked_by_owner = ask(stranger, sessionId="owner", peer="198.51.100.1")

    used = ask(stranger, sessionId="stranger")
    fresh = ask(stranger, numbers(1)[0], sessionId="stranger")
    checked = check(stranger, "123456")

    assert asked_by_owner.status_code == used.status_code == fresh.status_code == 202
    for answer in (used, fresh):
        assert limits_shown(answer) == {"keyless_peer", "client_ip_15m"}
    assert limits_shown(checked) == {"keyless_peer"}
    standings = [re.findall(r";r=(\d+)", one.headers["RateLimit"]) for one in (used, fresh)]
    assert standings == [["59", "9"], ["58", "8"]]


def test_refused_calls_leave_one_row_a_reason_and_minute(make_stranger: MakeCaller) -> None:
    """However many numbers a stranger names, and from wherever: none of them is kept."""
    stranger = make_stranger(**NO_LIMITS, OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")
    named = [f"+447700900{last:03}" for last in range(40)] + [f"+4490123456{last:02}" for last in range(40)]

    answers = [ask(stranger, number, peer=f"203.0.113.{nth}") for nth, number in enumerate(named)]

    assert {one.status_code for one in answers} == {400}
    rows = refusals(stranger)
    assert len({reason for reason, _, _ in rows}) == 2
    assert len(rows) <= 2 * 2  # the minute may have changed meanwhile
    assert not any(names_a_number for _, _, names_a_number in rows)
    assert sum(count for _, count, _ in rows) == 80


@pytest.mark.parametrize("differing", [{"OTPQUEUE_DAILY_CAP": "0"}, {"OTPQUEUE_COUNTRIES_BLOCKED": "DE"}])
def test_rules_that_refuse_every_number(make_stranger: MakeCaller, differing: dict[str, str]) -> None:
    """The same holds where a rule refuses whatever number comes."""
    stranger = make_stranger(**NO_LIMITS | differing)

    answers = [ask(stranger, number) for number in numbers(20)]

    assert not {one.status_code for one in answers} & {202, 500}
    rows = refusals(stranger)
    assert 1 <= len(rows) <= 2
    assert sum(count for _, count, _ in rows) == 20
    assert not any(names_a_number for _, _, names_a_number in rows)


def test_refusals_of_a_number_that_was_used(make_stranger: MakeCaller) -> None:
    """A number that strangers ask for again and again is counted as such: alerts look for it."""
    stranger = make_stranger()

    answers = [ask(stranger).status_code for _ in range(6)]

    assert answers == [202] * 3 + [429] * 3
    assert {(reason, named) for reason, _, named in refusals(stranger)} == {("limit_number_15m", True)}


def test_calls_past_the_limit_cost_nothing_in_postgres(make_stranger: MakeCaller) -> None:
    """Who calls too often leaves no row, whatever their calls would have been refused for."""
    stranger = make_stranger(
        OTPQUEUE_LIMIT_KEYLESS_PEER="3/15m",
        OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false",
        OTPQUEUE_COUNTRIES_BLOCKED="DE",
    )

    documented = [ask(stranger, f"+447700900{last:03}").status_code for last in range(10)]
    blocked = [ask(stranger, number).status_code for number in numbers(10)]

    assert documented == [400] * 3 + [429] * 7
    assert blocked == [429] * 10
    assert sum(count for _, count, _ in refusals(stranger)) == 3
