"""The pumping guard: reject sends to blocks of numbers with few verified codes."""
