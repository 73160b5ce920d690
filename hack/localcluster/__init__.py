"""A Kubernetes cluster for development: kind where Docker answers, else one built and run from Go modules."""
