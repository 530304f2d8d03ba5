"""Queries of the pumping guard."""
