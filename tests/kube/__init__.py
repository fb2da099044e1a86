"""Kubernetes: the controller's objects and store against a real API server."""
