"""docs/webhooks.md: its code runs, its tables are those of the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from otpqueue.domain import webhooks
from otpqueue.domain.webhooks import RETRIES, WebhookEvent

UNITS = {"s": "seconds", "min": "minutes", "h": "hours"}


@pytest.fixture
def document(project: Path) -> str:
    """Return the document."""
    return (project / "docs" / "webhooks.md").read_text(encoding="utf-8")


@pytest.fixture
def examples(document: str) -> dict[str, Any]:
    """Return what the Python examples define."""
    defined: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", document, re.DOTALL):
        exec(code, defined)  # noqa: S102 - our own document's
    return defined


def test_examples_verify(examples: dict[str, Any]) -> None:
    """Both ways to verify take what is genuine and nothing else."""
    secret, other = webhooks.generate_secret(), webhooks.generate_secret()
    text = webhooks.build_body(WebhookEvent.SENT, datetime.now(UTC), {"id": "1"})
    handled: list[dict[str, Any]] = []
    examples["handle"] = handled.append

    def both(secret: str, headers: dict[str, str], body: bytes) -> set[bool]:
        return {
            examples["receive"](secret, headers, body) == 204,
            examples["is_genuine"](secret, headers, body),
        }

    now = datetime.now(UTC)
    headers = webhooks.build_headers([other, secret], webhook_id="1", now=now, text=text)
    old = webhooks.build_headers([secret], webhook_id="1", now=now - timedelta(minutes=6), text=text)
    assert both(secret, headers, text.encode()) == {True}
    assert handled[0]["type"] == "otp_request.sent"
    assert both(webhooks.generate_secret(), headers, text.encode()) == {False}
    assert both(secret, headers, text.encode() + b" ") == {False}
    assert both(secret, headers | {"webhook-id": "2"}, text.encode()) == {False}
    assert both(secret, old, text.encode()) == {False}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node here")
def test_example_by_hand_in_node(document: str, tmp_path: Path) -> None:
    """What is done by hand in Node takes what is genuine and nothing else."""
    (code,) = (code for code in re.findall(r"```js\n(.*?)```", document, re.DOTALL) if "createHmac" in code)
    (tmp_path / "verify.mjs").write_text(code)
    script = (
        "import { isGenuine } from './verify.mjs';"
        "const [secret, headers, body] = JSON.parse(process.argv[1]);"
        "console.log(isGenuine(secret, headers, body));"
    )

    def said(*given: object) -> str:
        run = ["node", "--input-type=module", "-e", script, json.dumps(given)]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    secret, other = webhooks.generate_secret(), webhooks.generate_secret()
    headers = webhooks.build_headers([other, secret], webhook_id="1", now=datetime.now(UTC), text="{}")
    assert said(secret, headers, "{}") == "true"
    assert said(secret, headers, "{} ") == said(webhooks.generate_secret(), headers, "{}") == "false"


def test_events_are_those_of_the_code(document: str) -> None:
    """Each event has a row, and no other."""
    rows = re.findall(r"^\| `(otp\w+\.\w+)` \|", document, re.MULTILINE)

    assert rows == [*(event.value for event in WebhookEvent), webhooks.TEST]


def test_pauses_are_those_of_the_code(document: str) -> None:
    """The table of tries is the one that is kept to."""
    rows = re.findall(r"^\| (\d+) \| (\d+) (s|min|h) \|$", document, re.MULTILINE)

    assert [int(number) for number, *_ in rows] == list(range(2, len(RETRIES) + 2))
    assert [timedelta(**{UNITS[unit]: int(count)}) for _, count, unit in rows] == list(RETRIES)
