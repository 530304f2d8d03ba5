"""Metric names, documentation, alert rules and the dashboard agree with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otpqueue.console.runbooks import read_runbooks
from otpqueue.telemetry import metrics, metrics_folder, metrics_page
from otpqueue.telemetry.metrics import Family
from tests.scraping import scraped

FAMILIES = {family.name: family for family in (*metrics.OURS, *metrics.READ)}
OF_PROCESSES = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}
OF_PROMETHEUS = {"job", "instance", "le"}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_names_follow_the_conventions(family: Family) -> None:
    """The names are as Prometheus's own guide wants them: a prefix, base units, `_total` for counters."""
    assert re.fullmatch(r"otpqueue(_[a-z]+)+", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert (family.kind == "histogram") == bool(family.buckets)
    assert family.kind != "histogram" or family.name.endswith("_seconds")
    assert not re.search(r"_(ms|milliseconds|minutes|percent|count|sum|bucket)(_|$)", family.name)
    assert not {"job", "instance", "le", "quantile", "id", "client", "number"} & set(family.labels)
    assert family.help.endswith((".", ";")), family.help
    assert all(len(values) == len(family.labels) for values in family.known)


def test_every_metric_is_documented(project: Path) -> None:
    """docs/metrics.md has a row for each, with its kind and its labels, and none for another."""
    text = (project / "docs" / "metrics.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.+?) \| (.+) \|$", text, re.MULTILINE)

    said = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in rows}
    assert said == {name: (family.kind, family.labels) for name, family in FAMILIES.items()}
    for name, _, _, meaning, query in rows:
        assert FAMILIES[name].help.rstrip(".") in meaning
        used = set(named_in(query.replace("\\|", "|")))
        assert name in used or query == "see above", name


def named_in(query: str) -> Iterator[str]:
    """Yield the metrics of a query; fail on a label that a metric does not have."""
    for name, selector in re.findall(r"\b((?:otpqueue|process)_\w+)(\{[^}]*\})?", query):
        family = FAMILIES.get(re.sub(r"_(bucket|count|sum)$", "", name)) or FAMILIES.get(name)
        assert family or name in OF_PROCESSES, f"{name} is no metric"
        if family is None:
            yield name
            continue
        assert (family.name != name) == (family.kind == "histogram"), f"{name} of a {family.kind}"
        known = set(family.labels) | OF_PROMETHEUS
        used = set(re.findall(r'(\w+)\s*[=!]~?\s*"', selector))
        assert used <= known, f"{name} has no label {used - known}"
        yield family.name


def labels_in(query: str) -> set[str]:
    """Return the labels that a query groups by."""
    return {label.strip() for found in re.findall(r"\bby \(([^)]*)\)", query) for label in found.split(",")}


def test_rules_use_what_there_is(project: Path) -> None:
    """Every metric and label in the rules for Prometheus exists, and every rule is tested."""
    folder = project / "deploy" / "prometheus"
    rules = yaml.safe_load((folder / "rules.yml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((folder / "rules_test.yml").read_text())["tests"]

    for rule in rules:
        used = set(named_in(rule["expr"]))
        assert used or rule["expr"].startswith(("up{", "absent(up{")), rule["alert"]
        _grouped_by_their_labels(rule["expr"], used)
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        base, _, runbook = rule["annotations"]["runbook_url"].partition("/console/runbooks/")
        assert base == "{{ $externalLabels.otpqueue_url }}"
        assert runbook == "{{ $labels.rule }}" or runbook in read_runbooks(), rule["alert"]
    fires = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    rests = {
        one["alertname"] for test in tests for one in test["alert_rule_test"] if not one.get("exp_alerts")
    }
    assert fires == rests == {rule["alert"] for rule in rules}
    for test in tests:
        for series in test["input_series"]:
            assert set(named_in(series["series"])) or series["series"].startswith("up{")


def test_dashboard_uses_what_there_is(project: Path) -> None:
    """Every metric and label in the dashboard for Grafana exists, and no panel covers another."""
    dashboard = json.loads((project / "deploy" / "grafana" / "otpqueue.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]

    used = set()
    for query in (*queries, *variables):
        here = set(named_in(query))
        assert here, query
        _grouped_by_their_labels(query, here)
        used |= here

    wanted = {"otpqueue_recent_ratio", "otpqueue_recent_latency_seconds", "otpqueue_alerts_open"}
    assert used >= wanted
    # What a person would look for at three in the morning is on it: all but a few.
    assert len(used) > len(FAMILIES) * 0.9
    _laid_out(dashboard["panels"])
    defined = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) - {"__all"} <= defined


def _grouped_by_their_labels(query: str, used: set[str]) -> None:
    families = [FAMILIES[name] for name in used - OF_PROCESSES]
    known = {label for family in families for label in family.labels} | OF_PROMETHEUS
    assert labels_in(query) <= known, query


def _laid_out(panels: list[dict[str, Any]]) -> None:
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_grafana_finds_its_files(project: Path) -> None:
    """What docker-compose.yml mounts is there, and the data source is where Prometheus listens."""
    services = yaml.safe_load((project / "docker-compose.yml").read_text())["services"]
    watch = {name for name, service in services.items() if service.get("profiles") == ["watch"]}

    assert watch == {"prometheus", "grafana"}
    for name in watch:
        for mount in services[name]["volumes"]:
            source = mount.split(":")[0]
            assert not source.startswith("./") or (project / source).exists(), source
    source = yaml.safe_load((project / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ][0]
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((project / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    names = {name for one in scraped for found in one["dns_sd_configs"] for name in found["names"]}
    assert names <= set(services)
    worker_port = services["worker-send"]["environment"]["OTPQUEUE_WORKER_METRICS_PORT"]
    assert scraped[1]["dns_sd_configs"][0]["port"] == int(worker_port)


def test_page_reads_back() -> None:
    """A label's value may hold anything without breaking the page."""
    odd = 'a"b\\c\nd'

    page = metrics_page.render_page([(metrics.RECENT_FAILURES, {(odd,): 1.0})]).decode()

    assert 'otpqueue_recent_failures{reason="a\\"b\\\\c\\nd"} 1.0' in page


@pytest.mark.parametrize(
    ("status", "answer"),
    [(None, "none"), (200, "2xx"), (302, "3xx"), (404, "4xx"), (429, "429"), (503, "5xx"), (999, "other")],
)
def test_answers_have_classes(status: int | None, answer: str) -> None:
    """A provider that answers anything does not make a label of its own."""
    assert metrics.classify_status(status) == answer


def test_dead_processes_are_tidied_up(tmp_path: Path) -> None:
    """A new process takes the gauges of dead ones away and keeps their counts, but not of ever so many."""

    def process(statements: str) -> str:
        begin = "from otpqueue.telemetry import metrics, metrics_page; metrics.share_metrics(); "
        done = subprocess.run(
            [sys.executable, "-c", begin + statements],
            env={**os.environ, metrics_folder.FOLDER: str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    count = "metrics.count(metrics.RESENDS); metrics.change_gauge(metrics.IN_FLIGHT, 1); "
    show = "print(metrics_page.render_page().decode())"
    process(count)
    two = scraped(process(count + show))
    (counted,) = sorted(tmp_path.glob("counter_*.db"))[:1]
    for pid in range(4_000_000, 4_000_100):
        shutil.copy(counted, tmp_path / f"counter_{pid}.db")
    after = scraped(process(show))

    assert two("otpqueue_resends_accepted_total") == 2
    assert two("otpqueue_pump_in_flight") == 1
    assert after("otpqueue_pump_in_flight") == 0
    assert 2 <= after("otpqueue_resends_accepted_total") <= 2 * metrics_folder.DEAD_KEPT


def test_events_are_shared_soon(tmp_path: Path) -> None:
    """A process that is killed loses none but its last; a forked child does not count its parent's again."""
    counts = """
import os, time
from otpqueue.telemetry import metrics
metrics.share_metrics()
metrics.count(metrics.RESENDS, by=2)
metrics.observe(metrics.JOB_DURATION, 0.2, "purge")
if child := os.fork():
    os.waitpid(child, 0)
else:
    metrics.count(metrics.RESENDS)
time.sleep(4 * metrics.FLUSH_S)
os._exit(0)
"""
    shows = "from otpqueue.telemetry import metrics_page; print(metrics_page.render_page().decode())"
    environment = {**os.environ, metrics_folder.FOLDER: str(tmp_path)}
    printed = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for script in (counts, shows)
    ]
    page = scraped(printed[1])

    assert page("otpqueue_resends_accepted_total") == 3
    assert page("otpqueue_job_duration_seconds_count", name="purge") == 1
