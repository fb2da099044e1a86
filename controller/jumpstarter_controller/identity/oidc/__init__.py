"""Tokens of external issuers, by OpenID Connect: their keys are fetched and cached, their tokens verified here."""

from jumpstarter_controller.identity.oidc.issuer import Issuer, IssuerSettings

__all__ = ["Issuer", "IssuerSettings"]
