"""Falcon resources: each translates a call, runs one operation, and translates the result."""
