"""Statistics: roll up events, report windows, breakdowns and gauges."""
