"""`/try`: a made-up shop that uses the hosted page, with a simulated handset. Only in development."""
