"""Properties are tried on the same few examples each time, so that the tier takes seconds and says the same again."""

from hypothesis import settings

from poison import examples

# With DAWG_FUZZ_EXAMPLES as many as it says, new ones each time, as for the nonsense of tests/simulation/poison.
settings.register_profile("unit", parent=examples(25), suppress_health_check=())
settings.load_profile("unit")
