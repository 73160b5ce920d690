"""DAWG: a Kubernetes operator that runs tests with AI agents."""

__version__ = "0.1.0"
