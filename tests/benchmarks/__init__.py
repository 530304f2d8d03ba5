"""What the benchmarks count, as tests."""
