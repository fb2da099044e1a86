"""Logging in at an OpenID provider whose tokens a controller takes, and renewing what came of it."""

from jumpstarter_client.identity.oidc.provider import LoginError, Provider, Tokens, discover, renew

__all__ = ["LoginError", "Provider", "Tokens", "discover", "renew"]
