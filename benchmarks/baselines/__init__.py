"""Shapes to compare with."""
