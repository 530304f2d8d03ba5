"""Queries on statistics: roll-up and reports."""
