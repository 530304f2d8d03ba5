"""Logs, masks, metrics and traces."""
