"""Tokens of other issuers, by OpenID Connect: their keys are fetched and kept, their tokens checked here."""

from jumpstarter_controller.identity.oidc.issuer import Issuer, IssuerSettings

__all__ = ["Issuer", "IssuerSettings"]
