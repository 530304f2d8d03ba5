"""docker-compose.yml names commands, settings and paths that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from otpqueue import jobs
from otpqueue.settings import Settings
from otpqueue.worker.exposition import LIVE_PATH
from tests.deploy.described import SETTINGS, check_settings, parse_command


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services that run the image."""
    path = Path(__file__).resolve().parents[2] / "docker-compose.yml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    return {name: service for name, service in found.items() if service["image"] == "otpqueue"}


def test_services_run_commands_that_exist(services: dict[str, Any]) -> None:
    """Every command is valid; together the services serve every queue."""
    queues: list[str] = []
    for service in services.values():
        command = service["command"]
        lines = command[2].split(" && ") if command[0] == "sh" else [" ".join(command)]
        for line in lines:
            arguments = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", line).split()
            queues += str(parse_command(arguments).get("queues", "")).split(",")

    assert sorted(filter(None, queues)) == sorted(jobs.QUEUES)


def test_services_have_valid_settings(services: dict[str, Any]) -> None:
    """Variables are settings; with the secrets that an operator creates, their values are valid."""
    for name, service in services.items():
        given = service.get("environment", {})
        assert sorted(set(given) - SETTINGS) == []
        plain = {key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in given.items()}
        settings = check_settings({key: value for key, value in plain.items() if "${" not in value})
        if name.startswith("worker"):
            assert settings.worker_metrics_port
            (url,) = re.findall(r"http://[^']+", service["healthcheck"]["test"][-1])
            assert url == f"http://127.0.0.1:{settings.worker_metrics_port}{LIVE_PATH}"


def test_workers_have_time_to_finish(services: dict[str, Any]) -> None:
    """Docker waits longer for a worker than the worker for its sends."""
    workers = {name: service for name, service in services.items() if name.startswith("worker")}

    assert set(workers) == {"worker-send", "worker-periodic"}
    for service in workers.values():
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > Settings.model_fields["stop_within_s"].default
