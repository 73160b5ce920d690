"""Faults for real: a load on a release of its own, one fault after the other, and what history says of it."""
