"""The fault harness: real processes, injected faults, and checks of the outcome.

`python -m tests.faults --seed 1 --requests 2000` runs it; docs/reliability.md lists its checks.
`cluster` starts, kills and pauses processes. `chaos` derives a schedule of faults from a seed. `callers`
call the API. `history` holds the observations, `checks` evaluates them, and `report` prints them. `run`
combines these.
"""
