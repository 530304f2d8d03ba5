"""Named outages on the whole system, with production's times: `python -m tests.faults.scenarios [NAME ...]`.

killed    kill -9 of a worker with 50 sends in flight, the provider taking 2 s for each
redis     Redis is gone for 30 s
once      1 000 verifies of one right code at once, over four API processes
burst     5 000 requests while the provider is dead for 60 s

Each prints its figures, and fails loudly when what must hold does not.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults import web
from tests.faults.cluster import SETTINGS, UNLIMITED, Cluster

PRODUCTION: Mapping[str, str | None] = {
    name: None
    for name in SETTINGS
    if name not in {"OTPQUEUE_SEAL_KEYS", "OTPQUEUE_HASH_KEY"} and name not in UNLIMITED
}
"""The defaults that users get, in place of the cluster's short times; but no limits."""

Figures = dict[str, object]


class Violated(AssertionError):
    """What must hold did not."""


def _hold(condition: bool, what: str, *seen: object) -> None:
    if not condition:
        raise Violated(" ".join([what, *map(str, seen)]))


def _until(condition: Callable[[], bool], *, within_s: float, what: str) -> float:
    """Wait until a condition holds and return how many seconds that took."""
    began = time.monotonic()
    while not condition():
        _hold(time.monotonic() - began < within_s, f"not within {within_s:g} s:", what)
        time.sleep(0.1)
    return time.monotonic() - began


def _numbers(count: int) -> list[str]:
    return [f"+4479111{index:05d}" for index in range(count)]


def _ask(cluster: Cluster, number: str, *, api: int = 0) -> web.Answer:
    return cluster.call("POST", "/v1/otp-requests", {"phone_number": number}, api=api)


def _ask_all(cluster: Cluster, numbers: Iterable[str], *, threads: int = 16) -> list[str]:
    """Ask for codes from many threads, again where the answer was 503; return the ids of the 202s."""

    def ask(number: str) -> str:
        while True:
            answer = _ask(cluster, number, api=hash(number) % len(cluster.api_urls))
            if answer.status == 202:
                return str(answer.body["id"])
            _hold(answer.status == 503, "asked for a code:", answer)
            time.sleep(0.2)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, numbers))


def _statuses(cluster: Cluster) -> Counter[str]:
    rows = cluster.rows("SELECT status, count(*) AS n FROM otp_requests GROUP BY status")
    return Counter({row["status"]: row["n"] for row in rows})


def killed(folder: Path, *, settings: Mapping[str, str | None] = PRODUCTION, within_s: float = 45) -> Figures:
    """Kill a worker that is sending 50 codes: another one sends them all after the lease has expired."""
    count = 50
    with Cluster(folder, senders=1, settings=settings) as cluster:
        cluster.simulator.fault(match={"path": "/2fa/2/pin"}, latency_ms=2000)
        cluster.pause("send-1")  # so that it finds all of them at once
        _ask_all(cluster, _numbers(count))
        cluster.resume("send-1")
        in_flight = "SELECT count(*) AS n FROM send_attempts WHERE outcome IS NULL"
        _until(lambda: cluster.rows(in_flight)[0]["n"] == count, within_s=20, what="50 sends in flight")
        killed_at = time.time()
        cluster.kill("send-1")
        cluster.start("send-1")
        done = ["sent", "delivered"]
        took = _until(
            lambda: sum(_statuses(cluster)[status] for status in done) == count,
            within_s=within_s,
            what="all sent",
        )
        outcomes = Counter(
            (row["number"], row["outcome"])
            for row in cluster.rows("SELECT number, outcome FROM send_attempts")
        )
        _hold(outcomes == {(1, "unknown"): count, (2, "accepted"): count}, "attempts:", outcomes)
        stuck = cluster.rows("SELECT id FROM otp_requests WHERE send_state <> 'idle'")
        _hold(not stuck, "rows are stuck:", stuck)
        first = cluster.rows(
            "SELECT extract(epoch FROM min(claimed_at)) AS at FROM send_attempts WHERE number = 2"
        )
        return {
            "requests": count,
            "seconds from the kill to the first claimed again": round(float(first[0]["at"]) - killed_at, 1),
            "seconds from the kill until all were sent": round(took, 1),
        }


def redis(folder: Path, *, gone_s: float = 30, settings: Mapping[str, str | None] = PRODUCTION) -> Figures:
    """Take Redis away: checks and polls go on, what is accepted leaves when it is back."""
    with Cluster(folder, settings=settings) as cluster:
        ready = _ask_all(cluster, _numbers(40))
        _until(lambda: _statuses(cluster)["queued"] == 0, within_s=30, what="the first are sent")
        pids = {
            name: cluster.pid(name) for role in ("api", "send", "periodic") for name in cluster.names(role)
        }
        cluster.kill("redis")
        gone_at = time.monotonic()
        asked: Counter[int] = Counter()
        slowest = {"ask": 0.0, "poll": 0.0, "verify": 0.0}
        accepted: list[str] = []

        def timed(kind: str, call: Callable[[], web.Answer]) -> web.Answer:
            began = time.monotonic()
            answer = call()
            slowest[kind] = max(slowest[kind], time.monotonic() - began)
            return answer

        for turn, (number, request_id) in enumerate(zip(_numbers(40), ready, strict=True)):
            time.sleep(max(0.0, gone_at + turn * gone_s / 40 - time.monotonic()))
            fresh = f"+4479112{turn:05d}"
            answer = timed("ask", lambda number=fresh: _ask(cluster, number))  # type: ignore[misc]
            asked[answer.status] += 1
            _hold(answer.status in {202, 503}, "asked without Redis:", answer)
            if answer.status == 202:
                accepted.append(answer.body["id"])
            path = f"/v1/otp-requests/{request_id}"
            polled = timed("poll", lambda path=path: cluster.call("GET", path))  # type: ignore[misc]
            _hold(polled.status == 200, "polled without Redis:", polled)
            code = {"code": cluster.simulator.messages(number)[0]["pin"]}
            checked = timed(
                "verify",
                lambda path=path, code=code: cluster.call("POST", path + "/verify", code),  # type: ignore[misc]
            )
            _hold(checked.status == 200, "verified without Redis:", checked)
        health = web.call("GET", cluster.api_urls[0] + "/health")
        cluster.start("redis")
        took = _until(
            lambda: _statuses(cluster)["queued"] == 0,
            within_s=60,
            what="everything accepted is sent",
        )
        _ask_all(cluster, ["+447911190000"])
        ended = [cluster.call("GET", f"/v1/otp-requests/{one}").body for one in accepted]
        lost = [one for one in ended if one["status"] not in {"sent", "delivered"}]
        _hold(not lost, "not sent after Redis came back:", lost)
        _hold(pids == {name: cluster.pid(name) for name in pids}, "a process was restarted")
        _hold(health.status == 200 and health.body["redis"] == "unreachable", "health:", health)
        return {
            "seconds without Redis": gone_s,
            "asked for a code, by answer": dict(asked),
            "slowest answer meanwhile, ms": {kind: round(took * 1000) for kind, took in slowest.items()},
            "verified and polled meanwhile": len(ready),
            "seconds from its return until all accepted were sent": round(took, 1),
        }


def once(
    folder: Path, *, calls: int = 1000, apis: int = 4, settings: Mapping[str, str | None] = PRODUCTION
) -> Figures:
    """Verify one right code `calls` times at once over several processes: it is accepted once."""
    with Cluster(folder, apis=apis, settings=settings) as cluster:
        number = _numbers(1)[0]
        (request_id,) = _ask_all(cluster, [number])
        _until(lambda: _statuses(cluster)["queued"] == 0, within_s=30, what="sent")
        code = {"code": cluster.simulator.messages(number)[0]["pin"]}
        barrier = threading.Barrier(calls)

        def verify(turn: int) -> web.Answer | str:
            barrier.wait()
            try:
                return cluster.call("POST", f"/v1/otp-requests/{request_id}/verify", code, api=turn % apis)
            except (web.NotConnected, web.NoAnswer) as error:
                return f"{type(error).__name__}: {error}"

        began = time.monotonic()
        with ThreadPoolExecutor(calls) as pool:
            answers = list(pool.map(verify, range(calls)))
        took = time.monotonic() - began
        seen = Counter(
            (one.status, (one.body or {}).get("code", "verified")) if isinstance(one, web.Answer) else one
            for one in answers
        )
        _hold(seen[200, "verified"] == 1, "not exactly one 200:", seen)
        asked_of_provider = len(cluster.rows("SELECT 1 FROM checks"))
        return {
            "calls": calls,
            "answers": {f"{key}": count for key, count in seen.most_common()},
            "checks counted": asked_of_provider,
            "seconds": round(took, 1),
        }


def burst(
    folder: Path, *, requests: int = 5000, dead_s: float = 60, settings: Mapping[str, str | None] = PRODUCTION
) -> Figures:
    """Ask for thousands of codes while the provider is dead: afterwards all leave that still may."""
    with Cluster(folder, settings=settings, simulator=[f"--state={folder / 'simulator.json'}"]) as cluster:
        cluster.kill("simulator")
        dead_at = time.monotonic()
        _ask_all(cluster, _numbers(requests), threads=32)
        accepting_s = time.monotonic() - dead_at
        slowest = _slowest_health(cluster, until=dead_at + dead_s)
        tried = cluster.rows("SELECT count(*) AS n, max(number) AS most FROM send_attempts")[0]
        cluster.start("simulator")
        took = _until(lambda: _statuses(cluster)["queued"] == 0, within_s=120, what="all have ended")
        statuses = _statuses(cluster)
        late = cluster.rows(
            "SELECT count(*) AS n FROM send_attempts AS a JOIN otp_requests AS r ON r.id = a.request_id "
            "WHERE a.started_at > r.send_by"
        )[0]["n"]
        _hold(late == 0, "started after send_by:", late)
        _hold(set(statuses) <= {"sent", "delivered", "expired"}, "ended otherwise:", statuses)
        twice = Counter(message["to"] for message in cluster.simulator.messages()).most_common(1)
        _hold(twice[0][1] == 1, "sent twice:", twice)
        return {
            "requests": requests,
            "seconds to accept them": round(accepting_s, 1),
            "seconds the provider was dead": dead_s,
            "attempts meanwhile": tried["n"],
            "most attempts of one request": tried["most"],
            "slowest /health meanwhile, ms": round(slowest * 1000),
            "seconds to drain": round(took, 1),
            "ended": dict(statuses),
            "started after send_by": late,
        }


def _slowest_health(cluster: Cluster, *, until: float) -> float:
    slowest = 0.0
    while time.monotonic() < until:
        began = time.monotonic()
        _hold(web.call("GET", cluster.api_urls[0] + "/health").status == 200, "health is not 200")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.5)
    return slowest


SCENARIOS: Mapping[str, Callable[[Path], Figures]] = {
    "killed": killed,
    "redis": redis,
    "once": once,
    "burst": burst,
}


def main(names: list[str]) -> int:
    """Run the scenarios named, or all; return how many were violated."""
    violated = 0
    for name in names or SCENARIOS:
        _say(f"\n== {name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}")
        with tempfile.TemporaryDirectory(prefix="otpqueue-") as folder:
            Path(folder).chmod(0o711)  # As root, Postgres runs as another user, who must get to its folder.
            try:
                for what, figure in SCENARIOS[name](Path(folder)).items():
                    _say(f"{what:<55} {figure}")
            except Violated as error:
                violated += 1
                _say(f"VIOLATED: {error}")
    return violated


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
