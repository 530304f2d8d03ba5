"""The fault harness: the whole system as real processes, things that go wrong, and checks of what came of it.

`python -m tests.faults --seed 1 --requests 2000` runs it; docs/reliability.md tells what it looks for.
`cluster` starts, kills and pauses processes, `chaos` says from a seed what goes wrong when, `callers` call,
`history` is what was seen, `checks` judges a history, `report` prints it, `run` puts these together.
"""
