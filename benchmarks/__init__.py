"""Each performance claim of the docs, with its baseline, in one command."""
