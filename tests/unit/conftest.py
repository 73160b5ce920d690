"""Properties are tried on the same few examples each time, so that the tier takes seconds and says the same again."""

from hypothesis import settings

settings.register_profile("unit", max_examples=25, derandomize=True, database=None, deadline=None)
settings.load_profile("unit")
