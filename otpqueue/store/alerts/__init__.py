"""Queries on alerts, their facts and notices."""
