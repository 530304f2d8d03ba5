"""Programs of integrating developers against a served API: libraries, examples, commands of the docs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from otpqueue import clock
from otpqueue.api.guide import problems as guide_problems
from otpqueue.client.errors import ERRORS_BY_CODE
from otpqueue.domain import webhooks
from otpqueue.domain.webhooks import WebhookEvent
from tests.api.conftest import wrong
from tests.api.serving import Served
from tests.cli.conftest import forking  # noqa: F401 - a fixture
from tests.cli.forking import Forking
from tests.client.worker import CodeWorker
from tests.conftest import NO_EXPRESS, NO_LIMITS, NO_NODE

GUIDE_CLIENT = "guide"


@pytest.fixture(scope="module")
def module_settings(module_settings: dict[str, str]) -> dict[str, str]:
    """Return settings for programs that call often, also without a key, and that receive webhooks."""
    return (
        module_settings
        | NO_LIMITS
        | {"OTPQUEUE_GUIDE_CLIENT": GUIDE_CLIENT, "OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}
    )


@pytest.fixture(scope="module")
def worker(served: Served) -> Iterator[CodeWorker]:
    """Yield a worker beside the API."""
    with CodeWorker(served) as worker:
        yield worker


@pytest.fixture(scope="module")
def environment(served: Served, worker: CodeWorker) -> dict[str, str]:
    """Return the environment of programs that use the API."""
    return {
        **os.environ,
        "OTPQUEUE_URL": served.url,
        "OTPQUEUE_API_KEY": served.key,
        "OTPQUEUE_TEST_WORKER": worker.url,
    }


@pytest.fixture(scope="session")
def node() -> str:
    """Return the path of Node.js."""
    found = shutil.which("node")
    if found is None:
        pytest.skip(NO_NODE)
    return found


@pytest.fixture
def shell(
    module_settings: dict[str, str],
    served: Served,
    tmp_path: Path,
    forking: Forking,  # noqa: F811 - a fixture
) -> Callable[[str], str]:
    """Return a function that runs lines of a page in one shell after the other, with what they have set."""
    variables = {"URL": served.url, "SIMULATOR": served.provider.url}

    def run_lines(lines: str) -> str:
        command = re.fullmatch(r"(?:(\w+)=\$\()?otpqueue ([\w -]+)\)?", lines)
        if command:  # without the seconds that a new Python takes to import everything
            settings = os.environ | module_settings
            done = forking.run(*command[2].split(), folder=tmp_path, environment=settings, typed=None)
            assert done.returncode == 0, done.stderr
            variables.update({command[1]: done.stdout.strip()} if command[1] else {})
            return done.stdout
        output = run("bash", "-euc", f"{lines}\nset > set", cwd=tmp_path, environment=os.environ | variables)
        variables.update(re.findall(r"^(CODE)=(.*)$", (tmp_path / "set").read_text(), re.MULTILINE))
        return output

    return run_lines


def run(*command: str | Path, cwd: Path, environment: Mapping[str, str]) -> str:
    """Run a program and return what it prints."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_javascript_library(project: Path, node: str, environment: dict[str, str]) -> None:
    """The tests of the JavaScript library pass against this API, and none is skipped."""
    folder = project / "clients" / "javascript"

    output = run(node, "--test", "test/", cwd=folder, environment=environment)

    assert "# fail 0" in output
    assert "# skipped 0" in output
    assert "the life of a code" in output


Serve = Callable[[dict[str, str]], str]
"""Starts an example with some environment variables, and returns its URL."""


@pytest.fixture
def serve_flask(
    project: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serve]:
    """Yield a function that serves the Flask example."""
    with ExitStack() as stack:

        def serve(differing: dict[str, str]) -> str:
            for name, value in (environment | differing).items():
                monkeypatch.setenv(name, value)
            spec = util.spec_from_file_location("example", project / "docs/examples/flask/app.py")
            assert spec
            assert spec.loader
            example = util.module_from_spec(spec)
            # Flask looks for the templates beside the module.
            monkeypatch.setitem(sys.modules, "example", example)
            spec.loader.exec_module(example)
            stack.callback(example.otp.close)
            return stack.enter_context(serving_wsgi(example.app))

        yield serve


@contextmanager
def serving_wsgi(app: object) -> Iterator[str]:
    """Serve a WSGI application until the block ends."""
    server = make_server("127.0.0.1", 0, app, threaded=True)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def serve_express(
    project: Path, node: str, environment: dict[str, str], tmp_path: Path, pytestconfig: pytest.Config
) -> Iterator[Serve]:
    """Yield a function that serves the Express example, with the packages that npm installs for it."""
    folder = project / "docs" / "examples" / "express"
    (tmp_path / "node_modules").symlink_to(install_packages(folder, project, pytestconfig))
    for name in ("server.js", "package.json"):
        shutil.copy(folder / name, tmp_path)
    with ExitStack() as stack:

        def serve(differing: dict[str, str]) -> str:
            program = stack.enter_context(
                subprocess.Popen(
                    [node, "server.js"],
                    cwd=tmp_path,
                    env=environment | differing | {"PORT": "0"},
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(program.terminate)
            assert program.stdout
            started = program.stdout.readline()
            port = re.fullmatch(r"listening on (\d+)\n", started)
            assert port, started
            return f"http://127.0.0.1:{port[1]}"

        yield serve


def install_packages(folder: Path, project: Path, pytestconfig: pytest.Config) -> Path:
    """Return a `node_modules` for a package.json, which is installed once per version of the file."""
    description = (folder / "package.json").read_text(encoding="utf-8")
    digest = hashlib.sha256(description.encode()).hexdigest()[:16]
    assert pytestconfig.cache
    cached = pytestconfig.cache.mkdir(f"npm-{digest}")
    package = json.loads(description)
    library = package["dependencies"].pop("otpqueue-client")
    assert library.startswith("file:")
    link = cached / "node_modules" / "otpqueue-client"
    if not link.is_symlink():
        (cached / "package.json").write_text(json.dumps(package), encoding="utf-8")
        install = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=20000"]
        if shutil.which("npm") is None or subprocess.run(install, cwd=cached, check=False).returncode != 0:
            pytest.skip(NO_EXPRESS)
        link.symlink_to((folder / library.removeprefix("file:")).resolve())
    assert link.resolve() == project / "clients" / "javascript"
    return cached / "node_modules"


@pytest.fixture
def webhook_secret(served: Served) -> Iterator[str]:
    """Yield the secret of the client's webhooks; a receiver needs it before its own address is known."""
    secret = served.parts.webhooks.set("served", "http://127.0.0.1:9/", events=(), now=clock.now())
    assert secret
    yield secret
    served.parts.webhooks.remove("served", now=clock.now())


@pytest.mark.parametrize("framework", ["flask", "express"])
def test_example_back_end(
    framework: str, served: Served, worker: CodeWorker, webhook_secret: str, request: pytest.FixtureRequest
) -> None:
    """A person signs up with a resent code after a typing error, and logs in again later."""
    serve: Serve = request.getfixturevalue(f"serve_{framework}")
    number = {"flask": "+447700900770", "express": "+447700900771"}[framework]
    url = serve({"SESSION_SECRET": "of-the-test", "WEBHOOK_SECRETS": f"whsec_b2xk {webhook_secret}"})
    served.parts.webhooks.set("served", f"{url}/webhooks/otpqueue", events=(), now=clock.now())
    person = requests.Session()

    def submit(path: str, **fields: str) -> requests.Response:
        return person.post(url + path, data=fields, timeout=30)

    assert "Phone number" in person.get(url, timeout=30).text
    assert "not a phone number" in submit("/codes", number="12").text
    assert (
        f"Enter the code that we sent to {number}"
        in submit("/codes", number=f"{number[:3]} {number[3:]}").text
    )
    assert "on its way" in submit("/login", code="123456").text
    code = worker.receive_code(number)

    served.parts.webhook_pump.run()
    assert "Status: sent." in person.get(url, timeout=30).text
    event = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
    assert requests.post(f"{url}/webhooks/otpqueue", data=b"{}", headers=event, timeout=30).status_code == 401
    assert requests.post(f"{url}/webhooks/otpqueue", timeout=30).status_code == 401

    assert re.search(r"Please wait \d+ seconds\.", submit("/resend", channel="voice").text)
    assert "Wrong code. 4 attempts left." in submit("/login", code=wrong(code)).text
    stranger = requests.Session()
    assert "Phone number" in stranger.post(f"{url}/login", data={"code": code}, timeout=30).text
    assert f"Welcome, {number}." in submit("/login", code=code).text
    assert f"Welcome, {number}." in person.get(url, timeout=30).text

    submit("/codes", number=number)
    assert f"Welcome back, {number}." in submit("/login", code=worker.receive_code(number)).text


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a language in a page."""
    return [block.strip() for block in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)]


@pytest.fixture
def migration(project: Path) -> str:
    """Return the page for users of the Node guide."""
    return (project / "docs" / "migrate-from-node-guide.md").read_text(encoding="utf-8")


def test_commands_of_the_migration(migration: str, shell: Callable[[str], str], worker: CodeWorker) -> None:
    """Each command of the page works, in the order of the page."""
    address, request, check, *others = blocks(migration, "sh")
    assert re.fullmatch(r"URL=http://127\.0\.0\.1:\d+ SIMULATOR=http://127\.0\.0\.1:\d+", address)

    assert "202 Accepted" in shell(request)
    worker.receive_code("+447700900123")
    read, wrong_code, correct = check.splitlines()
    shell(read)
    assert '"errorCode":"WRONG_PIN"' in shell(wrong_code)
    assert '"success":true' in shell(correct)

    commands, key, call = others
    outputs = [shell(command) for command in commands.splitlines()]
    assert "INFOBIP_BASE_URL" in outputs[0]
    assert shell(key).startswith("oq_")
    assert "202 Accepted" in shell(call)


def test_client_of_the_guide(
    migration: str, node: str, served: Served, worker: CodeWorker, environment: dict[str, str], tmp_path: Path
) -> None:
    """The guide's client works without a change but its base URL, and gets the answers that it expects."""
    (client,) = blocks(migration, "js")
    (tmp_path / "client.mjs").write_text(client, encoding="utf-8")
    (tmp_path / "program.mjs").write_text(GUIDE_PROGRAM, encoding="utf-8")

    output = run(node, "program.mjs", cwd=tmp_path, environment=environment | {"OTP_SERVICE_URL": served.url})

    said = json.loads(output)
    assert said.pop("requested") == "The code is being sent."
    assert said.pop("correct") == "The phone number is verified."
    # What is wrong is a text for a person, another one each time.
    assert "phoneNumber" in said["invalid"]
    assert "wrong" in said["wrong"]
    assert len(set(said.values())) == len(said) == 4
    assert "no error" not in said.values()


GUIDE_PROGRAM = """
import { requestOtp, verifyOtp } from "./client.mjs";

const number = "+447700900125";
const failure = (call) => call.then(() => "no error", (error) => error.message);
const said = { requested: await requestOtp(number) };
said.invalid = await failure(requestOtp("07700"));
said.early = await failure(verifyOtp(number, "123456"));
const reply = await fetch(`${process.env.OTPQUEUE_TEST_WORKER}/code?number=%2B447700900125`);
const { code } = await reply.json();
said.wrong = await failure(verifyOtp(number, code === "000000" ? "000001" : "000000"));
said.correct = await verifyOtp(number, code);
said.again = await failure(verifyOtp(number, code));
console.log(JSON.stringify(said));
"""


@pytest.mark.parametrize(("has_key", "number"), [(False, "+447700900126"), (True, "+447700900127")])
def test_payloads_of_the_guide(has_key: bool, number: str, served: Served, worker: CodeWorker) -> None:
    """Statuses and members of the answers are those of the guide, with a key and without one."""
    headers = {"Authorization": f"Bearer {served.key}"} if has_key else {}

    def post(path: str, **body: str) -> tuple[int, dict[str, object]]:
        answer = requests.post(served.url + path, json=body, headers=headers, timeout=30)
        return answer.status_code, answer.json()

    status, answer = post("/request-otp", phoneNumber=number)
    assert (status, answer["success"]) == (202, True)
    assert set(answer) == {"success", "message", "requestId", "statusUrl"}
    code = worker.receive_code(number)
    status, answer = post("/verify-otp", phoneNumber=number, otp=wrong(code))
    assert (status, answer["success"], answer["errorCode"]) == (400, False, "WRONG_PIN")
    assert isinstance(answer["error"], str)
    verified = {"success": True, "message": "The phone number is verified."}
    assert post("/verify-otp", phoneNumber=number, otp=code) == (200, verified)
    status, answer = post("/verify-otp", phoneNumber=number, otp=code)
    assert (status, answer["success"], answer["errorCode"]) == (400, False, "PIN_NOT_FOUND")


def test_error_codes_of_the_guide_are_documented(migration: str) -> None:
    """The table of error codes is that of the code."""
    rows = re.findall(r"^\| (`[A-Z_`, ]+) \| ([\d, ]+) \|", migration, re.MULTILINE)
    documented = {
        (code, status)
        for codes, statuses in rows
        for code, status in zip(re.findall(r"\w+", codes), re.findall(r"\d+", statuses), strict=True)
    }

    answers = {(code, str(status)) for code, status in guide_problems._ANSWERS.values()}
    assert documented == answers | {("SERVICE_UNAVAILABLE", "503")}


@pytest.fixture
def library_page(project: Path) -> str:
    """Return the page about the libraries."""
    return (project / "docs" / "clients.md").read_text(encoding="utf-8")


def test_python_examples(
    library_page: str,
    served: Served,
    worker: CodeWorker,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Python examples of the page log a user in, report, and verify webhooks."""
    for name in ("OTPQUEUE_URL", "OTPQUEUE_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    defined: dict[str, Any] = {}
    for code in blocks(library_page, "python"):
        exec(code, defined)  # noqa: S102 - our own page
    number = "+447700900760"

    request_id = defined["start_login"](number, "login-1", "192.0.2.1")
    code = worker.receive_code(number)
    assert defined["report_sending"](request_id) == "sent, 4 resends left"
    assert defined["finish_login"](request_id, wrong(code), "login-1") == "Wrong code. 4 attempts left."
    assert defined["finish_login"](request_id, code, "login-1") == "Welcome."
    cancelled = defined["otp"].cancel_request(defined["start_login"](number, "login-2", "192.0.2.1"))
    assert "no longer valid" in defined["finish_login"](cancelled.id, code, "login-2")

    with ThreadPoolExecutor(1) as background:
        status = background.submit(lambda: asyncio.run(defined["send_and_wait"]("+447700900761")))
        while not status.done():
            served.parts.pump.run()
        assert status.result() == "sent"

    remembered: list[object] = []
    defined["remember"] = lambda *event: remembered.append(event)
    headers, body, secrets = sign_webhook()
    assert defined["receive"](headers, body, secrets) == 204
    assert defined["receive"](headers, body + b" ", secrets) == 401
    assert remembered == [("1", "otp_request.sent", {"id": "1"})]
    assert defined["impatient"].get_request(request_id).status == "verified"
    for name in ("otp", "impatient", "once"):
        defined[name].close()


def sign_webhook() -> tuple[dict[str, str], bytes, list[str]]:
    """Return headers and body of a webhook, and the secrets of which one has signed it."""
    secrets = [webhooks.generate_secret(), webhooks.generate_secret()]
    now = datetime.now(UTC)
    body = webhooks.build_body(WebhookEvent.SENT, now, {"id": "1"})
    return webhooks.build_headers(secrets[1:], webhook_id="1", now=now, text=body), body.encode(), secrets


def test_javascript_examples(
    library_page: str, project: Path, node: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """The JavaScript examples of the page do the same."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "otpqueue-client").symlink_to(project / "clients" / "javascript")
    (tmp_path / "page.mjs").write_text("\n".join(blocks(library_page, "js")), encoding="utf-8")
    (tmp_path / "program.mjs").write_text(PAGE_PROGRAM, encoding="utf-8")
    headers, body, secrets = sign_webhook()
    webhook = json.dumps([headers, body.decode(), secrets])

    output = run(node, "program.mjs", webhook, cwd=tmp_path, environment=environment)

    assert json.loads(output) == [
        "sent, 4 resends left",
        "Wrong code. 4 attempts left.",
        "Welcome.",
        204,
        ["1", "otp_request.sent", {"id": "1"}],
        401,
        "verified",
    ]


PAGE_PROGRAM = """
import { finishLogin, impatient, receive, reportSending, startLogin } from "./page.mjs";

const said = [];
const id = await startLogin("+447700900762", "login-1", "192.0.2.1");
const reply = await fetch(`${process.env.OTPQUEUE_TEST_WORKER}/code?number=%2B447700900762`);
const { code } = await reply.json();
said.push(await reportSending(id));
said.push(await finishLogin(id, code === "000000" ? "000001" : "000000", "login-1"));
said.push(await finishLogin(id, code, "login-1"));
const [headers, body, secrets] = JSON.parse(process.argv[2]);
let event;
said.push(receive(headers, body, secrets, (...given) => (event = given)), event);
said.push(receive(headers, `${body} `, secrets, () => {}));
said.push((await impatient.getRequest(id)).status);
console.log(JSON.stringify(said));
"""


def test_errors_are_documented(library_page: str) -> None:
    """The table has each class of problem codes beside the class of its status, and no other."""
    table = {
        row[1]: set(re.findall(r"\w+Error", row[2]))
        for row in re.findall(r"^\| ([\dx, other]+) \| `(\w+)` \| (.*) \|$", library_page, re.MULTILINE)
    }
    found: dict[str, set[str]] = {}
    for error in ERRORS_BY_CODE.values():
        parent = next(kind for kind in error.__mro__[1:] if "problem_code" not in vars(kind))
        found.setdefault(parent.__name__, set()).add(error.__name__)

    assert table == found


@pytest.mark.full
def test_typescript(library_page: str, project: Path, node: str, tmp_path: Path) -> None:
    """The types of the JavaScript library accept its examples, and reject a wrong channel."""
    packages = {"typescript": "^5.9.0", "@types/node": "^22.0.0"}
    (tmp_path / "package.json").write_text(json.dumps({"dependencies": packages}), encoding="utf-8")
    install = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--fetch-timeout=20000"]
    if shutil.which("npm") is None or subprocess.run(install, cwd=tmp_path, check=False).returncode != 0:
        pytest.skip(NO_EXPRESS)
    (tmp_path / "node_modules" / "otpqueue-client").symlink_to(project / "clients" / "javascript")
    (tmp_path / "program.mts").write_text(TYPED_PROGRAM, encoding="utf-8")
    command = [node, "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--target", "es2022"]
    command += ["--module", "nodenext", "--moduleResolution", "nodenext", "--types", "node", "program.mts"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    assert re.findall(r"program\.mts\((\d+),", done.stdout) == ["13"], done.stdout
    assert '"letter"' in done.stdout


TYPED_PROGRAM = """
import { CodeIncorrectError, OtpqueueClient, ProblemError, verifyWebhook } from "otpqueue-client";

const otp = new OtpqueueClient({ retries: { attempts: 2 } });
const request = await otp.sendCode("+447700900123", { sessionId: "login-1" });
const expires: Date | null = (await otp.waitForRequest(request)).expiresAt;
try {
  await otp.verifyCode(request, "123456");
} catch (error) {
  if (error instanceof CodeIncorrectError) console.log(error.checksLeft + 1, expires?.getTime());
  if (error instanceof ProblemError) console.log(error.retryAfter, error.errors[0]?.field);
}
await otp.resendCode(request.id, { channel: "letter" });
console.log(verifyWebhook(new Headers(), "{}", ["whsec_AAAA"]).data);
"""
