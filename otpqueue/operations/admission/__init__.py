"""Admission: the rules, limits, stops and lists that decide whether a code may be sent."""
