"""Settings: read once, every problem at once, and no secret in any message."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from otpqueue.settings import Settings, SettingsError, load

KEY_A = base64.b64encode(b"a" * 32).decode()
KEY_B = base64.b64encode(b"b" * 32).decode()
MAILED = {
    "OTPQUEUE_ALERT_EMAIL_TO": "ops@example.com, boss@example.com",
    "OTPQUEUE_ALERT_EMAIL_FROM": "alerts@otp.example",
    "OTPQUEUE_SMTP_URL": "smtps://anna:hunter2@mail.example",
}
TEST_NUMBERS = '{"+447700900001": {"code": "314159", "until": "2027-01-01"}}'


def problems_of(environment: dict[str, str], **kwargs: Any) -> list[str]:
    """Load the settings, which must fail, and return what is said to be wrong."""
    with pytest.raises(SettingsError) as caught:
        load(environment, **({"dotenv": None} | kwargs))
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_nothing_need_be_set() -> None:
    """Every setting has a default or is asked for only by the part that needs it."""
    settings = load({}, dotenv=None)

    assert (settings.port, settings.host) == (8000, "127.0.0.1")
    assert (settings.code_lifetime_s, settings.send_within_s, settings.max_checks) == (300, 90, 5)
    assert (settings.max_attempts, settings.unknown_resends) == (6, 1)
    assert (settings.connect_timeout_s, settings.provider_timeout_s, settings.send_lease_s) == (3, 15, 30)
    assert settings.database_url is settings.infobip_api_key is settings.guide_client is None
    assert not settings.allow_documentation_numbers
    assert not settings.try_page


def test_values_are_typed() -> None:
    """Text from the environment becomes what the code works with."""
    settings = load(
        {
            "PORT": "9000",
            "OTPQUEUE_TRY_PAGE": "true",
            "OTPQUEUE_SEND_WITHIN_S": "1.5",
            "OTPQUEUE_LOG_FORMAT": "readable",
        },
        dotenv=None,
    )

    assert settings.port == 9000
    assert settings.try_page is True
    assert settings.send_within_s == 1.5
    assert settings.log_format == "readable"


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_optional_counts_as_not_set(blank: str) -> None:
    """A line left empty in an environment file means the default."""
    settings = load({"OTPQUEUE_GUIDE_CLIENT": blank, "INFOBIP_API_KEY": blank, "PORT": ""}, dotenv=None)

    assert settings.guide_client is settings.infobip_api_key is None
    assert settings.port == 8000


def test_settings_cannot_be_changed() -> None:
    """What was read once stays."""
    settings = load({}, dotenv=None)

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PORT", "0", "greater than or equal to 1"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("PORT", "http", "valid integer"),
        ("OTPQUEUE_CODE_LIFETIME_S", "601", "less than or equal to 600"),
        ("OTPQUEUE_CODE_LIFETIME_S", "nan", "finite"),
        ("OTPQUEUE_SEND_WITHIN_S", "0", "greater than 0"),
        ("OTPQUEUE_TUNING_SEND_LEASE_S", "inf", "finite"),
        ("OTPQUEUE_TUNING_BACKOFF_MAX_S", "-1", "greater than 0"),
        ("OTPQUEUE_MAX_CHECKS", "8", "less than or equal to 7"),
        ("OTPQUEUE_UNKNOWN_RESENDS", "-1", "greater than or equal to 0"),
        ("OTPQUEUE_TRY_PAGE", "perhaps", "valid boolean"),
        ("OTPQUEUE_LOG_FORMAT", "xml", "'json' or 'readable'"),
        ("OTPQUEUE_LOG_LEVEL", "LOUD", "'DEBUG'"),
        ("INFOBIP_BASE_URL", "http://x.api.infobip.com", "must be an address like"),
        ("INFOBIP_BASE_URL", "x.api.infobip.com", "must be an address like"),
        ("INFOBIP_BASE_URL", "https://", "must be an address like"),
        ("INFOBIP_BASE_URL", "http://localhost.evil.example", "must be an address like"),
        ("INFOBIP_BASE_URL", "https://user:password@x.api.infobip.com", "must be an address like"),
        ("INFOBIP_BASE_URL", "https://[x", "must be an address like"),
        ("INFOBIP_BASE_URL", "https://x.api.infobip.com/?a=b", "must be an address like"),
        ("INFOBIP_SENDER_ID", "S" * 17, "at most 16"),
        ("OTPQUEUE_HASH_KEY", "c2hvcnQ=", "32 bytes"),
        ("OTPQUEUE_HASH_KEY", "no base64!", "base64"),
        ("OTPQUEUE_SEAL_KEYS", KEY_A, "id:base64"),
        ("OTPQUEUE_SEAL_KEYS", f":{KEY_A}", "id:base64"),
        ("OTPQUEUE_SEAL_KEYS", f"k1:{KEY_A},k1:{KEY_B}", "different ids"),
        ("OTPQUEUE_SEAL_KEYS", "k1:c2hvcnQ=", "32 bytes"),
        ("OTPQUEUE_SEAL_KEYS", f"k1:{KEY_A},", "id:base64"),
        ("INFOBIP_API_KEY", "with space", "printable ASCII"),
        ("OTPQUEUE_DAILY_CAP", "-1", "greater than or equal to 0"),
        ("OTPQUEUE_DAILY_CAP", "many", "valid integer"),
        ("OTPQUEUE_DAILY_CAPS_BY_COUNTRY", "GB=5", "must be a JSON object"),
        ("OTPQUEUE_DAILY_CAPS_BY_COUNTRY", '{"GB": -5}', "greater than or equal to 0"),
        ("OTPQUEUE_TEST_NUMBERS", '{"07911": {"code": "123456", "until": "2027-01-01"}}', "in E.164"),
        ("OTPQUEUE_TEST_NUMBERS", '{"+447700900001": {"code": "1234", "until": "2027-01-01"}}', "six digits"),
        ("OTPQUEUE_TEST_NUMBERS", '{"+447700900001": {"code": "123456"}}', "required"),
        ("OTPQUEUE_ALERT_RULES", "success_rate=0.9", "must be a JSON object"),
        ("OTPQUEUE_ALERT_RULES", '{"success_rate": {"treshold": 0.9}}', "Extra inputs are not permitted"),
        ("OTPQUEUE_ALERT_RULES", '{"success_rate": {"threshold": "low"}}', "valid number"),
        ("OTPQUEUE_ALERT_RULES", '{"success_rate": {"opens_after": 0}}', "greater than or equal to 1"),
        ("OTPQUEUE_ALERT_WEBHOOK_URL", "hooks.slack.com/services", "must be a URL"),
        ("OTPQUEUE_ALERT_WEBHOOK_URL", "https://user:word@hooks.example", "without a user in it"),
        ("OTPQUEUE_PUBLIC_URL", "otp.example", "must be an address like"),
        ("OTPQUEUE_TUNING_EVALUATE_ALERTS_EVERY_S", "0", "greater than 0"),
        ("INFOBIP_BASE_URL", "https://x.api.infobip.com:70000", "must be an address like"),
        ("OTPQUEUE_PROVIDER_SENDS", "many", "like `100/1d`"),
        ("OTPQUEUE_LIMIT_NUMBER_15M", "3 in 15m", "like `3/15m`"),
        ("INFOBIP_API_KEY", "with\nnewline", "printable ASCII"),
        ("OTPQUEUE_METRICS_TOKEN", "too-short", "16 or more characters"),
        ("OTPQUEUE_METRICS_TOKEN", "long enough but with spaces", "printable ASCII"),
        ("OTPQUEUE_WORKER_METRICS_PORT", "0", "greater than or equal to 1"),
        ("INFOBIP_API_KEY", "schlüssel", "printable ASCII"),
    ],
)
def test_unusable_value_is_named(name: str, value: str, problem: str) -> None:
    """The problem names the variable and the values that it accepts."""
    (line,) = problems_of({name: value})

    assert line.startswith(name)
    assert problem in line


@pytest.mark.parametrize(
    "url",
    [
        "https://x.api.infobip.com",
        "https://x.api.infobip.com/",
        "https://x.api.infobip.com:8443",
        "https://gateway.example/infobip",
        "http://127.0.0.1:8009",
        "http://localhost",
        "http://[::1]:8009",
        "http://simulator:8009",
    ],
)
def test_base_url_is_https_or_local(url: str) -> None:
    """Codes travel over TLS; a simulator on this machine, or beside it in Compose, need not."""
    assert load({"INFOBIP_BASE_URL": url}, dotenv=None).infobip_base_url == url


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"OTPQUEUE_TUNING_SEND_LEASE_S": "29"}, "OTPQUEUE_TUNING_SEND_LEASE_S must be at least twice"),
        ({"OTPQUEUE_TUNING_CHECK_LEASE_S": "15"}, "OTPQUEUE_TUNING_CHECK_LEASE_S must be longer"),
        ({"INFOBIP_MESSAGE_TEMPLATE": "Hello"}, "INFOBIP_MESSAGE_TEMPLATE must contain {{pin}}"),
        ({"INFOBIP_APPLICATION_ID": "A"}, "must be given together"),
        ({"OTPQUEUE_ALERT_EMAIL_TO": "ops@example.com"}, "OTPQUEUE_SMTP_URL must be given together"),
        ({**MAILED, "OTPQUEUE_SMTP_URL": "mail.example:587"}, "OTPQUEUE_SMTP_URL must be `smtp://"),
        ({**MAILED, "OTPQUEUE_SMTP_URL": "smtp://anna@mail.example"}, "OTPQUEUE_SMTP_URL must be `smtp://"),
        ({**MAILED, "OTPQUEUE_ALERT_EMAIL_TO": "ops"}, "OTPQUEUE_ALERT_EMAIL_TO must be like"),
        ({**MAILED, "OTPQUEUE_ALERT_EMAIL_FROM": "x y@z"}, "OTPQUEUE_ALERT_EMAIL_FROM must be like"),
        ({"INFOBIP_MESSAGE_ID": "M"}, "must be given together"),
        (
            {"OTPQUEUE_WORKER_METRICS_PORT": "9464"},
            "OTPQUEUE_WORKER_METRICS_PORT needs OTPQUEUE_METRICS_TOKEN",
        ),
        (
            {"INFOBIP_BASE_URL": "https://x.api.infobip.com", "OTPQUEUE_TEST_NUMBERS": TEST_NUMBERS},
            "OTPQUEUE_TEST_NUMBERS needs OTPQUEUE_ALLOW_TEST_NUMBERS=true",
        ),
    ],
)
def test_combination_that_cannot_work_is_named(environment: dict[str, str], problem: str) -> None:
    """Values that are good alone and bad together are refused, both named."""
    (line,) = problems_of(environment)

    assert problem in line


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """One error has all problems of values, combinations, files and unknown names."""
    problems = problems_of(
        {
            "PORT": "many",
            "OTPQUEUE_MAX_CHECKS": "0",
            "OTPQUEUE_TUNING_CHECK_LEASE_S": "1",
            "INFOBIP_MESSAGE_TEMPLATE": "Hello",
            "OTPQUEUE_HASH_KEY": "!",
            "OTPQUEUE_SEAL_KEYS": "!",
            "INFOBIP_API_KEY_FILE": str(tmp_path / "missing"),
            "OTPQUEUE_MAX_CHEKS": "5",
        }
    )

    for name in (
        "PORT: ",
        "OTPQUEUE_MAX_CHECKS: ",
        "OTPQUEUE_TUNING_CHECK_LEASE_S must",
        "INFOBIP_MESSAGE_TEMPLATE must",
        "OTPQUEUE_HASH_KEY must",
        "OTPQUEUE_SEAL_KEYS must",
        "INFOBIP_API_KEY_FILE cannot be read",
        "OTPQUEUE_MAX_CHEKS is not a setting",
    ):
        assert [problem for problem in problems if problem.startswith(name)], name
    assert len(problems) == 8


def test_combination_with_an_unreadable_value_is_not_guessed_at() -> None:
    """What depends on a value that cannot be read is not judged by that setting's default."""
    problems = problems_of({"OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "two", "OTPQUEUE_TUNING_SEND_LEASE_S": "4"})

    assert [problem.partition(":")[0] for problem in problems] == ["OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S"]


@pytest.mark.parametrize(
    "name", ["OTPQUEUE_MAX_CHEKS", "OTPQUEUE_", "OTPQUEUE_PORT", "OTPQUEUE_HASHKEY_FILE"]
)
def test_unknown_name_of_ours_is_refused(name: str) -> None:
    """A misspelt setting is an error, and not ignored."""
    assert problems_of({name: "5"}) == [f"{name} is not a setting"]


def test_setting_that_became_a_constant_is_refused() -> None:
    """An operator who set it learns that it has no effect, from the environment, a file and `.env`."""
    assert problems_of({"OTPQUEUE_SWEEP_EVERY_S": "9", "OTPQUEUE_PROVIDER_VERIFY_LIMIT_FILE": "/x"}) == [
        "OTPQUEUE_PROVIDER_VERIFY_LIMIT_FILE is no longer a setting: its value is always 20/1s; remove it",
        "OTPQUEUE_SWEEP_EVERY_S is no longer a setting: its value is always 5; remove it",
    ]


def test_constant_can_be_overridden_for_tests() -> None:
    """The variable of a constant is checked like that of a setting, and an unknown one is refused."""
    assert load({"OTPQUEUE_TUNING_SWEEP_EVERY_S": "0.5"}, dotenv=None).sweep_every_s == 0.5
    assert problems_of({"OTPQUEUE_TUNING_SWEEP_S": "1", "OTPQUEUE_TUNING_JOB_S": "0"}) == [
        "OTPQUEUE_TUNING_SWEEP_S is not a setting",
        "OTPQUEUE_TUNING_JOB_S: Input should be greater than 0",
    ]


def test_other_variables_are_ignored() -> None:
    """The rest of the environment is none of our business, nor are the command line's own variables."""
    load(
        {"PATH": "/bin", "INFOBIP_SOMETHING": "x", "OTPQUEUE_URL": "u", "OTPQUEUE_API_KEY": "k"}, dotenv=None
    )


SECRETS = {
    "INFOBIP_API_KEY": "infobip-s3cret",
    "DATABASE_URL": "postgresql://u:pg-s3cret@h/d",
    "REDIS_URL": "redis://:redis-s3cret@h/0",
    "OTPQUEUE_BROKER_URL": "amqp://u:rabbit-s3cret@h",
    "OTPQUEUE_METRICS_TOKEN": "metrics-s3cret-token",
    "OTPQUEUE_SEAL_KEYS": f"k1:{KEY_A}",
    "OTPQUEUE_HASH_KEY": KEY_B,
}


def test_caps_and_lists_are_read() -> None:
    """`none` is no cap, which must be said; lists have commas between; fixed codes do not print."""
    settings = load(
        {
            "OTPQUEUE_DAILY_CAP": "none",
            "OTPQUEUE_DAILY_CAPS_BY_COUNTRY": '{"GB": 5, "*": 1}',
            "OTPQUEUE_COUNTRIES_ALLOWED": "GB, DE,",
            "OTPQUEUE_TEST_NUMBERS": TEST_NUMBERS,
        },
        dotenv=None,
    )

    assert load({}, dotenv=None).daily_cap == 10_000
    assert settings.daily_cap is settings.daily_cap_per_client is None
    assert settings.daily_caps_by_country == {"GB": 5, "*": 1}
    assert settings.countries_allowed == ("GB", "DE")
    assert "314159" not in f"{settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_secrets_do_not_print() -> None:
    """However settings are printed, no secret is."""
    settings = load(SECRETS, dotenv=None)

    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert "s3cret" not in printed
    assert KEY_A not in printed
    assert KEY_B not in printed


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secrets_are_not_in_problems(name: str) -> None:
    """What is wrong is said without the value, also of a bad secret."""
    bad = SECRETS | {name: "s3cret !\n", "PORT": "s3cret", f"{name}X": "s3cret"}

    with pytest.raises(SettingsError) as caught:
        load(bad, dotenv=None)

    shown = f"{caught.value} {caught.value!r}"
    assert "s3cret" not in shown
    assert KEY_A not in shown
    assert KEY_B not in shown
    assert caught.value.__suppress_context__


def test_secrets_can_be_unwrapped() -> None:
    """The part that needs a secret gets it."""
    settings = load(SECRETS, dotenv=None)

    assert settings.require("database_url") == SECRETS["DATABASE_URL"]
    assert settings.broker == SECRETS["OTPQUEUE_BROKER_URL"]
    assert settings.hashing_keys() == [b"b" * 32]


def test_missing_setting_is_asked_for_by_name() -> None:
    """A part with a missing setting names the variable."""
    settings = load({}, dotenv=None)

    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        settings.require("database_url")
    with pytest.raises(SettingsError, match="OTPQUEUE_SEAL_KEYS is not set"):
        settings.sealing_keys()
    with pytest.raises(SettingsError, match="REDIS_URL is not set"):
        _ = settings.broker


@pytest.mark.parametrize("password", ["p@s3cret", "p@s3cret/word", "p@s@s3cret"])
def test_unescaped_sign_in_the_password_of_the_database(password: str) -> None:
    """Otherwise the driver would show the end of the password as the name of a host it cannot find."""
    with pytest.raises(SettingsError, match="`@` in the user or the password as `%40`") as caught:
        load({"DATABASE_URL": f"postgresql://u:{password}@db.example/otp"}, dotenv=None)

    assert "s3cret" not in str(caught.value)
    encoded = f"postgresql://u:{quote(password, safe='')}@db.example/otp?application_name=a@b"
    assert load({"DATABASE_URL": encoded}, dotenv=None).require("database_url") == encoded


def test_broker_is_redis_unless_set() -> None:
    """One Redis is enough."""
    assert load({"REDIS_URL": "redis://h/0"}, dotenv=None).broker == "redis://h/0"


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:s3cret@rabbit:5672/otpqueue",
        "amqps://user:s3cret@rabbit//",
        "amqp://user:s3cret@a/v;amqp://user:s3cret@b/v",
        "redis://:s3cret@h:6379/0",
        "rediss://:s3cret@h/0",
    ],
)
def test_broker_may_be_rabbitmq_or_redis(url: str) -> None:
    """A broker's URL is taken as it stands, a cluster's several nodes too."""
    assert load({"OTPQUEUE_BROKER_URL": url}, dotenv=None).broker == url


@pytest.mark.parametrize(
    "url",
    [
        "rabbit:5672",
        "http://:s3cret@h",
        "memory://",
        "filesystem://s3cret",
        "amqp://",
        "amqp://user:s3cret@h:port/v",
        "amqp://user:s3/cret@h/v",
        "amqp://user:s3cret@h:0/v",
        "amqp://user:s3cret@a/v;b",
        "redis://h/zero",
    ],
)
def test_invalid_broker_is_refused(url: str) -> None:
    """What Celery could not use, or would lose jobs with, is refused at once and not shown."""
    with pytest.raises(SettingsError, match="OTPQUEUE_BROKER_URL must be `amqp") as caught:
        load({"OTPQUEUE_BROKER_URL": url}, dotenv=None)

    assert "s3" not in str(caught.value)


def test_broker_behind_a_unix_socket_is_called_as_celery_does() -> None:
    """One Redis is enough, also one without a port."""
    settings = load({"REDIS_URL": "unix://:s3cret@/run/valkey.sock?db=1"}, dotenv=None)

    assert settings.broker == "redis+socket://:s3cret@/run/valkey.sock?virtual_host=1"


def test_sealing_keys_keep_their_order() -> None:
    """The first key seals; spaces around the commas do no harm."""
    settings = load({"OTPQUEUE_SEAL_KEYS": f"new:{KEY_B} , old:{KEY_A}"}, dotenv=None)

    assert list(settings.sealing_keys().items()) == [("new", b"b" * 32), ("old", b"a" * 32)]


def test_secret_is_read_from_a_file(tmp_path: Path) -> None:
    """`NAME_FILE` gives what is in the file, without its last newline."""
    secret = tmp_path / "key"
    secret.write_text("from-a-file\n")

    settings = load({"INFOBIP_API_KEY_FILE": str(secret)}, dotenv=None)

    assert settings.require("infobip_api_key") == "from-a-file"


def test_file_and_value_together_are_refused(tmp_path: Path) -> None:
    """Two sources of one setting are a mistake, not a choice."""
    secret = tmp_path / "key"
    secret.write_text("s3cret")

    problems = problems_of({"INFOBIP_API_KEY_FILE": str(secret), "INFOBIP_API_KEY": "other"})

    assert problems == ["INFOBIP_API_KEY and INFOBIP_API_KEY_FILE are both set; keep one"]


def test_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """A file that is missing, a folder, or not text is a problem."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")

    problems = problems_of(
        {
            "DATABASE_URL_FILE": str(tmp_path / "missing"),
            "REDIS_URL_FILE": str(tmp_path),
            "INFOBIP_API_KEY_FILE": str(binary),
        }
    )

    assert [problem.partition(" ")[0] for problem in sorted(problems)] == [
        "DATABASE_URL_FILE",
        "INFOBIP_API_KEY_FILE",
        "REDIS_URL_FILE",
    ]


def test_environment_wins_over_dotenv(tmp_path: Path) -> None:
    """`.env` fills in what the environment leaves open."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("PORT=9000\n# a remark\nOTPQUEUE_HOST='0.0.0.0'\nexport OTPQUEUE_MAX_CHECKS=3\n")

    settings = load({"PORT": "9001"}, dotenv=dotenv)

    assert (settings.port, settings.host, settings.max_checks) == (9001, "0.0.0.0", 3)  # noqa: S104


def test_dotenv_problems_are_problems(tmp_path: Path) -> None:
    """A misspelt name in `.env` is a problem as well."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("OTPQUEUE_TYPO=1\n")

    assert problems_of({}, dotenv=dotenv) == ["OTPQUEUE_TYPO is not a setting"]


WEB_OTP = "Code {{pin}}\n\n@shop.example #{{pin}}"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r'"Code {{pin}}\n\n@shop.example #{{pin}}"', WEB_OTP),
        (r'"Code {{pin}}\n\n@shop.example #{{pin}}" # for WebOTP', WEB_OTP),
        ("'Code {{pin}}\n\n@shop.example #{{pin}}'", WEB_OTP),
        ("'{{pin}} ${HOME} $HOME'", "{{pin}} ${HOME} $HOME"),
        (r"'\d {{pin}}'", r"\d {{pin}}"),
        ("{{pin}}#1 it's $HOME", "{{pin}}#1 it's $HOME"),
        ("#{{pin}}", "#{{pin}}"),
        ("  {{pin}} été  ", "{{pin}} été"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_dotenv_value_is_kept_as_written(tmp_path: Path, line: str, value: str, end: str) -> None:
    """Quotes protect everything; without them, what is not ambiguous is kept. A BOM is no part of it."""
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(f"\ufeffINFOBIP_MESSAGE_TEMPLATE={line}{end}".encode())

    assert load({"HOME": "/root"}, dotenv=dotenv).infobip_message_template == value


def test_json_in_dotenv_has_escapes_of_its_own(tmp_path: Path) -> None:
    """What JSON says of a backslash holds, with and without quotes around it."""
    dotenv = tmp_path / ".env"
    for text in (r'{"de": "{{pin}}\n\n@a.de"}', r"""'{"de": "{{pin}}\n\n@a.de"}'"""):
        dotenv.write_text(f"OTPQUEUE_TEMPLATES={text}\n", encoding="utf-8")

        assert load({}, dotenv=dotenv).templates == {"de": "{{pin}}\n\n@a.de"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"INFOBIP_MESSAGE_TEMPLATE=Code {{pin}} @shop.example #{{pin}}", "may begin a comment"),
        (b"PORT=9000 # the port", "may begin a comment"),
        (b"OTPQUEUE_GUIDE_CLIENT= # none", "may begin a comment"),
        (b"DATABASE_URL=postgresql://${SECRET}@h/d", "variables are not expanded"),
        (b'DATABASE_URL="postgresql://${SECRET}@h/d"', "variables are not expanded"),
        (rb"INFOBIP_MESSAGE_TEMPLATE={{pin}}\n@shop.example", "double quotes"),
        (b"OTPQUEUE_RECEIPTS_PASSWORD=SECRET\xfc", "not text in UTF-8"),
        (b"OTPQUEUE_RECEIPTS_PASSWORD=SECRET\0", "not text in UTF-8"),
        (b'OTPQUEUE_RECEIPTS_PASSWORD="SECRET', "quote"),
        (b"OTPQUEUE_RECEIPTS_PASSWORD='SECRET", "quote"),
        (b"OTPQUEUE_RECEIPTS_PASSWORD='SE'CRET'", "quote"),
        (b"OTPQUEUE_HASH_KEY", "has no `=`"),
        (b"OTPQUEUE_HASH_KEY_FILE=/run/a # b", "may begin a comment"),
        ("PORT=9000".encode("utf-16"), "not text in UTF-8"),
    ],
)
def test_ambiguous_line_of_dotenv_is_refused(tmp_path: Path, line: bytes, problem: str) -> None:
    """Nothing is cut, expanded or passed over in silence: the line is named, its value is not shown."""
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(b"# a remark\n\n" + line + b"\nOTPQUEUE_MAX_CHECKS=3\n")

    found = problems_of({"SECRET": "x"}, dotenv=dotenv)

    assert found[0].startswith(".env, line 3: ")
    assert problem in found[0]
    assert len(found) == 1
    assert "SECRET" not in found[0].replace("OTPQUEUE_RECEIPTS_PASSWORD", "")


def test_lines_of_others_in_dotenv_are_theirs(tmp_path: Path) -> None:
    """Docker Compose reads the same file, and may expand and cut what is meant for it."""
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(b"# caf\xe9\nTAG=${TAG:-1} # the image\nPASS_THROUGH\nNAME=caf\xe9\nPORT=9000\n")

    assert load({}, dotenv=dotenv).port == 9000


def test_dotenv_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem has the reason. A folder of that name, such as a virtual environment, is ignored."""

    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    folder, dotenv = tmp_path / "a" / ".env", tmp_path / ".env"
    folder.mkdir(parents=True)
    dotenv.touch()
    assert load({}, dotenv=folder) == load({}, dotenv=None)

    monkeypatch.setattr(Path, "read_bytes", deny)  # root may read everything
    assert problems_of({}, dotenv=dotenv) == [".env cannot be read: Permission denied"]


@pytest.mark.parametrize("name", ["INFOBIP_MESSAGE_TEMPLATE", "OTPQUEUE_TEMPLATES"])
def test_text_with_an_escape_in_place_of_a_line_break_is_refused(name: str) -> None:
    """It would be sent as it is. `docker run --env-file` and YAML without quotes hand it over like this."""
    text = r"{{pin}}\n@shop.example"

    (problem,) = problems_of({name: text if name.startswith("I") else json.dumps({"de": text})})

    assert problem.startswith(name)
    assert "line break" in problem


def test_value_in_quotes_is_refused() -> None:
    """Whatever set it took the quotes for a part of it."""
    (problem,) = problems_of({"INFOBIP_MESSAGE_TEMPLATE": '"Code {{pin}}"'})

    assert problem.startswith("INFOBIP_MESSAGE_TEMPLATE is in quotes")


def test_missing_dotenv_is_no_problem(tmp_path: Path) -> None:
    """`.env` is a convenience."""
    assert load({}, dotenv=tmp_path / ".env") == load({}, dotenv=None)


def test_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument the process's own environment is read."""
    monkeypatch.setenv("PORT", "9100")

    assert load(dotenv=None).port == 9100


def test_every_setting_has_a_line_of_help() -> None:
    """Each field has a variable's name and a description that fits a table."""
    for name, field in Settings.model_fields.items():
        assert field.alias, name
        assert field.description, name
        assert "\n" not in field.description
        assert "|" not in field.description


@pytest.mark.parametrize(
    "name",
    [
        "OTPQUEUE_SERVICE_HOST",
        "OTPQUEUE_API_SERVICE_PORT_HTTP",
        "OTPQUEUE_PORT",
        "OTPQUEUE_PORT_8000_TCP_ADDR",
    ],
)
def test_variables_of_an_orchestrator_are_no_settings(name: str) -> None:
    """What Kubernetes says of a Service called otpqueue is passed over, not taken for a mistyped setting."""
    settings = load({name: "tcp://10.0.0.1:8000"}, dotenv=None)

    assert settings.port == 8000


def test_alerts_are_mailed_to_several() -> None:
    """Recipients are a list, and the password of the mail server is not shown."""
    settings = load(MAILED | {"OTPQUEUE_ALERT_RULES": '{"success_rate": {"off": true}}'}, dotenv=None)

    assert settings.alert_email_to == ("ops@example.com", "boss@example.com")
    assert settings.alert_rules["success_rate"].off
    assert "hunter2" not in repr(settings)
