"""The pumping guard: refuse sends into blocks of numbers whose codes are not verified."""
