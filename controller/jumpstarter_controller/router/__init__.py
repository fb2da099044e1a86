"""The router: two streams with the same token are one byte stream."""

from jumpstarter_controller.router.service import LAST_SECONDS, ROUTER_OPTIONS, RouterService
from jumpstarter_controller.router.tokens import RouterTokens

__all__ = ["LAST_SECONDS", "ROUTER_OPTIONS", "RouterService", "RouterTokens"]
