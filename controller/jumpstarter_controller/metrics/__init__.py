"""Numbers about controller and router for Prometheus."""
