"""What benchmarks run on and report with."""
