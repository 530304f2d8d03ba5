"""Clients that others generate from the OpenAPI document work: Python and TypeScript, over HTTP."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
import requests

from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.resources.pages import write_openapi
from tests.api.conftest import wrong
from tests.api.serving import Served
from tests.conftest import NO_GENERATOR

MODELS_PER_OPERATION = 3.5
"""At most, on average."""
GENERATED = Path(__file__).parents[1] / "generated"
TOOLS = GENERATED / "node_modules" / ".bin"


def require(available: bool, command: str) -> None:
    """Skip the test if a generator is missing, or fail where one was installed."""
    if not available:
        assert os.environ.get("GENERATED_CLIENTS") != "required", f"missing: {command}"
        pytest.skip(f"{NO_GENERATOR}: {command}")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the OpenAPI document."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(write_openapi(), encoding="utf-8")
    return path


@pytest.fixture
def pumped(served: Served) -> Iterator[Served]:
    """Yield the API, with codes sent while the test runs."""
    stop = threading.Event()

    def pump() -> None:
        while not stop.wait(0.05):
            served.parts.pump.run()

    thread = threading.Thread(target=pump)
    thread.start()
    yield served
    stop.set()
    thread.join()


@pytest.fixture
def client_package(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the package that openapi-python-client generates."""
    require(importlib.util.find_spec("openapi_python_client") is not None, "pip install -e '.[generators]'")
    settings = tmp_path / "settings.yml"
    settings.write_text("post_hooks: []\n", encoding="utf-8")
    target = tmp_path / "generated_otpqueue"
    generate = (sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none")
    files = ("--path", document, "--config", settings, "--output-path", target)
    _run(*generate, "--fail-on-warning", *files)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("generated_otpqueue")


def test_python_client(client_package: ModuleType, pumped: Served) -> None:
    """The generated Python client sends, polls, is refused, verifies, resends and cancels."""

    def load(name: str) -> Any:
        return importlib.import_module(f"{client_package.__name__}.{name}")

    files = list(Path(client_package.__path__[0], "models").glob("*.py"))
    assert len(files) <= MODELS_PER_OPERATION * len(ENDPOINTS)
    models, codes = load("models"), {name: load(f"api.codes.{name}") for name in _CALLS}
    number = "+447700900801"
    client = client_package.AuthenticatedClient(pumped.url, pumped.key, raise_on_unexpected_status=True)
    with client:
        wanted = models.NewOtpRequest(phone_number=number, session_id="login-py")
        accepted = codes["send_code"].sync(client=client, body=wanted, idempotency_key="order-1")
        assert accepted == codes["send_code"].sync(client=client, body=wanted, idempotency_key="order-1")
        assert accepted.status in {models.RequestStatus.QUEUED, models.RequestStatus.SENDING}

        polled = accepted
        for _ in range(20):
            polled = codes["get_request"].sync(accepted.id, client=client, wait=5)
            if polled.status is models.RequestStatus.SENT:
                break
        assert (polled.status, polled.checks_left) == (models.RequestStatus.SENT, 5)
        assert polled.expires_at > polled.sent_at

        code = pumped.provider.code(number)
        guess = models.CodeToVerify(code=wrong(code), session_id="login-py")
        refused = codes["verify_code"].sync(accepted.id, client=client, body=guess)
        assert isinstance(refused, models.Problem)
        assert (refused.code, refused.checks_left) == (models.ProblemCode.CODE_INCORRECT, 4)

        options = models.ResendOptions(channel=models.Channel.VOICE)
        early = codes["resend_code"].sync_detailed(accepted.id, client=client, body=options)
        assert (early.status_code, early.parsed.code) == (429, models.ProblemCode.RESEND_TOO_SOON)

        typed = models.CodeToVerify(code=code, session_id="login-py")
        verified = codes["verify_code"].sync(accepted.id, client=client, body=typed)
        assert isinstance(verified, models.VerifiedOtpRequest)
        assert (verified.verified, verified.reason) == (True, models.EndReason.CODE_CORRECT)

        other = codes["send_code"].sync(client=client, body=models.NewOtpRequest(phone_number=number))
        cancelled = codes["cancel_request"].sync(other.id, client=client)
        assert cancelled.status is models.RequestStatus.CANCELLED
        missing = codes["get_request"].sync(UUID(int=0), client=client)
        assert missing.code is models.ProblemCode.REQUEST_NOT_FOUND

    with client_package.AuthenticatedClient(pumped.url, "oq_unknown") as stranger:
        unknown = codes["get_request"].sync(accepted.id, client=stranger)
    assert unknown.reason is models.CredentialFault.UNKNOWN_KEY


_CALLS = ("send_code", "get_request", "verify_code", "resend_code", "cancel_request")


def test_typescript_types(document: Path, tmp_path: Path, pumped: Served) -> None:
    """A client with the generated types compiles in strict mode, and its flow works in Node."""
    require(bool(shutil.which("node")) and (TOOLS / "tsc").exists(), "npm ci --prefix tests/generated")
    for name in ("flow.ts", "tsconfig.json"):
        shutil.copy(GENERATED / name, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    number = "+447700900802"
    inbox = f"{pumped.provider.url}/_simulator/messages?to={number[1:]}"

    _run(TOOLS / "openapi-typescript", document, "--output", tmp_path / "schema.ts")
    _run(TOOLS / "tsc", "--project", tmp_path)
    printed = _run("node", tmp_path / "flow.js", pumped.url, pumped.key, number, inbox)

    assert requests.get(inbox, timeout=5).json()["messages"]
    assert json.loads(printed) == {
        "accepted": "queued",
        "sent": "sent",
        "early": ["resend_too_soon", "Resend too soon"],
        "refused": ["code_incorrect", 4],
        "verified": [True, "verified", "code_correct"],
        "cancelled": ["cancelled", "cancelled_by_client"],
    }


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
