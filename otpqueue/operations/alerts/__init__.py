"""Alerts: evaluate rules, open and resolve alerts, notify operators."""
