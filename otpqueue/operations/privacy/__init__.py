"""Privacy: purge by retention, erase a number, rotate keys."""
