"""Queries on alerts, their measurements and notifications."""
