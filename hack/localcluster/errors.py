"""The one exception that a person sees as a message instead of a traceback."""


class ClusterError(Exception):
    """Something is missing or went wrong; the text says what, and what would change it."""
