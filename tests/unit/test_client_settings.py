"""Client settings: parsed, changed by path, and tolerant of values from other versions."""

from __future__ import annotations

from typing import Any

import pytest

from otpqueue.domain.client_settings import (
    PATHS,
    ClientSettings,
    add_setting,
    flatten_settings,
    list_unknown_settings,
    remove_setting,
)
from otpqueue.domain.errors import InvalidRequest
from otpqueue.domain.limits import Quota

NEWER: dict[str, Any] = {
    "limits": {"number_15m": "5/15m", "number_week": "7/7d", "number_day": {"soft": 3}, "key_rate": 12},
    "webhooks": ["https://example.org"],
    "colour": None,
}


def test_nothing_set() -> None:
    """A client without settings uses the deployment's."""
    assert ClientSettings.from_stored({}) == ClientSettings()


def test_limits_are_read() -> None:
    """A client's own quota, and one that is off."""
    stored = {"limits": {"number_15m": "5/15m", "key_rate": "off"}}

    assert ClientSettings.from_stored(stored).limits == {"number_15m": Quota(5, 900), "key_rate": None}


def test_settings_of_a_newer_version_are_passed_over() -> None:
    """Settings that this version cannot parse are ignored and listed."""
    assert ClientSettings.from_stored(NEWER).limits == {"number_15m": Quota(5, 900)}
    assert set(list_unknown_settings(NEWER)) == {
        "limits.number_week",
        "limits.number_day.soft",
        "limits.key_rate",
        "webhooks",
        "colour",
    }


def test_settings_of_a_newer_version_are_kept() -> None:
    """Setting or removing one setting keeps all others as stored."""
    changed = add_setting(NEWER, "limits.client_ip_15m", "1/15m")

    assert flatten_settings(changed) == flatten_settings(NEWER) | {"limits.client_ip_15m": "1/15m"}
    assert remove_setting(changed, "limits.client_ip_15m") == NEWER


@pytest.mark.parametrize(("text", "stored"), [("5/15m", "5/15m"), ("48/24h", "48/d"), ("off", "off")])
def test_what_is_set_is_stored_in_one_form(text: str, stored: str) -> None:
    """A quota is stored in its shortest form."""
    assert add_setting({}, "limits.number_day", text) == {"limits": {"number_day": stored}}


def test_the_last_one_unset_leaves_nothing() -> None:
    """A section without settings is not kept."""
    assert remove_setting({"limits": {"number_day": "5/d"}}, "limits.number_day") == {}


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("limits.number_15m", "5", "must be like"),
        ("limits.number_15m", "0/m", "must allow"),
        ("limits.number_day_all", "5/d", "is not a setting; the settings are limits"),
        ("limits", "5/d", "is not a setting"),
        ("webhook_url", "https://example.org", "is not a setting"),
        ("", "", "is not a setting"),
    ],
)
def test_what_cannot_be_set(path: str, text: str, message: str) -> None:
    """Unknown paths and invalid values are rejected. Limits that clients share cannot be set."""
    with pytest.raises(InvalidRequest) as refused:
        add_setting({}, path, text)

    assert refused.value.errors[0].field == path
    assert message in refused.value.errors[0].message


def test_missing_setting_cannot_be_unset() -> None:
    """Removing a setting that is not set is rejected."""
    with pytest.raises(InvalidRequest) as refused:
        remove_setting({"limits": {"number_day": "5/d"}}, "limits.number_15m")

    assert refused.value.errors[0].message == "is not set"


def test_every_path_takes_what_it_gives() -> None:
    """A parser accepts its own output."""
    texts = {
        "daily_cap": "100",
        "countries_allowed": "gb, 001",
        "countries_blocked": "",
        "languages": "de,en-GB",
        "page.return_urls": "https://shop.example/login/, http://localhost:8000/done",
        "page.origins": "https://Shop.example",
        "page.name": " Shop ",
        "page.logo": "https://cdn.example/logo.png",
        "page.colour": "#0F7A5F",
        "page.languages": "de,EN",
    }
    texts |= dict.fromkeys((path for path in PATHS if path.count(".") == 2), "A text")

    assert all(path in texts or path.startswith("limits.") for path in PATHS)
    for path, read in PATHS.items():
        once = read(texts.get(path, "5/15m"))
        assert read(once) == once, path


ODD_VALUES: list[Any] = [
    None,
    True,
    5,
    1.5,
    -1,
    "",
    "x",
    "\n",
    [],
    [None],
    [1],
    [[]],
    {},
    {"a": 1},
    {"": None},
]


@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
def test_no_value_breaks_reading(value: Any) -> None:
    """Whatever is stored at a path, at a section or in place of all settings is passed over."""
    by_path = {"limits": {path.removeprefix("limits."): value for path in PATHS if "." in path}}
    for stored in (value, by_path, dict.fromkeys(PATHS, value), {"limits": value}):
        ClientSettings.from_stored(stored)
        list_unknown_settings(stored)


@pytest.mark.parametrize("stored", [None, [], "x", 7])
def test_settings_that_are_no_object_are_named_and_can_be_removed(stored: Any) -> None:
    """They are not replaced unasked: only `unset settings` removes them."""
    assert list_unknown_settings(stored) == ["settings"]
    with pytest.raises(InvalidRequest) as refused:
        add_setting(stored, "daily_cap", "5")
    assert "no JSON object" in refused.value.errors[0].message
    assert remove_setting(stored, "settings") == {}


def test_section_that_is_no_object_is_not_replaced() -> None:
    """A limit cannot be set beside what another version keeps in the place of all limits."""
    with pytest.raises(InvalidRequest) as refused:
        add_setting({"limits": "none"}, "limits.number_15m", "5/15m")
    assert "no JSON object" in refused.value.errors[0].message
