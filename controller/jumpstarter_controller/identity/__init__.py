"""Identity: keys, tokens, and the authentication of callers."""

from jumpstarter_controller.identity.authenticate import Authenticator, VerifiedCaller, authorise
from jumpstarter_controller.identity.enrolment import new_code, redeem, redeemed, refused
from jumpstarter_controller.identity.keys import random_key, signing_key
from jumpstarter_controller.identity.tokens import Subject, TokenError, TokenIssuer, expired

__all__ = [
    "Authenticator",
    "Subject",
    "TokenError",
    "TokenIssuer",
    "VerifiedCaller",
    "authorise",
    "expired",
    "new_code",
    "random_key",
    "redeem",
    "redeemed",
    "refused",
    "signing_key",
]
