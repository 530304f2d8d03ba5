"""How long a person waits: from command to ready, and at rest from POST to `sent`.

    python -m benchmarks.latency [--requests 50]

Starts `otpqueue dev` in an empty folder (cold: databases are made) and again in the same (warm); then asks
for codes one by one, with a pause between, and prints what `created_at` and `sent_at` say of each.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

PAUSE_S = 0.2


def start(folder: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Start an instance in `folder` and return it with the seconds until it was ready."""
    described = folder / ".otpqueue" / "dev.json"
    began = time.perf_counter()
    command = [sys.executable, "-m", "otpqueue", "dev", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    while not described.is_file():
        if process.poll() is not None:
            raise SystemExit("otpqueue dev did not start")
        time.sleep(0.01)
    return process, time.perf_counter() - began


def sent_after_ms(about: dict[str, Any], index: int) -> float:
    """Ask for a code and return the milliseconds until the provider had taken it."""
    url, headers = about["api_url"], {"Authorization": f"Bearer {about['api_key']}"}
    body = {"phone_number": f"+447400{index:06}"}
    request = requests.post(f"{url}/v1/otp-requests", json=body, headers=headers, timeout=10).json()
    while request["sent_at"] is None:
        time.sleep(0.02)
        request = requests.get(f"{url}/v1/otp-requests/{request['id']}", headers=headers, timeout=10).json()
    created, sent = (datetime.fromisoformat(request[name]) for name in ("created_at", "sent_at"))
    return (sent - created).total_seconds() * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process, cold = start(folder)
        process.send_signal(signal.SIGTERM)
        process.wait()
        process, warm = start(folder)
        about = json.loads((folder / ".otpqueue" / "dev.json").read_text())
        took = []
        for index in range(given.requests):
            took.append(sent_after_ms(about, index))
            time.sleep(PAUSE_S)
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait()
        stopped = time.perf_counter() - began
    print(f"command to ready, cold   {cold:6.2f} s")
    print(f"command to ready, warm   {warm:6.2f} s")
    print(f"SIGTERM to gone          {stopped:6.2f} s")
    quantiles = statistics.quantiles(took, n=20)
    print(f"POST to sent             {statistics.median(took):6.1f} ms median, {quantiles[-1]:.1f} ms p95")


if __name__ == "__main__":
    main()
