"""Logins at an OpenID provider whose tokens a controller accepts, and renewal of the tokens."""

from jumpstarter_client.identity.oidc.provider import LoginError, Provider, Tokens, discover, renew

__all__ = ["LoginError", "Provider", "Tokens", "discover", "renew"]
