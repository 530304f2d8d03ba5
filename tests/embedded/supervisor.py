"""A supervisor as `otpqueue dev` is one: holds a folder, runs both engines, reports them as JSON, and waits.

    python supervisor.py FOLDER [once]

With `once` it stops in good order right after the report.
"""

import json
import sys
import time
from pathlib import Path

from otpqueue.embedded import EngineHome, Postgres, Valkey


def main(folder: Path, *, once: bool) -> None:
    """Run the engines until killed."""
    with (
        EngineHome(folder) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        report = {"postgres": postgres.pid, "valkey": valkey.pid, "urls": [postgres.url, valkey.url]}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()
        if not once:
            time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]), once="once" in sys.argv)
