"""Numbers about controller and router over plain HTTP, for Prometheus, and whether they live and are ready."""

from jumpstarter_controller.metrics.http import Page, serve_http

__all__ = ["Page", "serve_http"]
