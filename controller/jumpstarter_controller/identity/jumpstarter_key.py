"""The key with which a controller of Jumpstarter 0.9 signs tokens, from its CONTROLLER_KEY.

It is made from the first numbers of Go's `math/rand`, an additive lagged Fibonacci generator, in the way of Go 1.19
for P-256 keys. The generator has only 2**31 - 1 seeds, so the key can be found by trying them with one token.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["JUMPSTARTER_AUDIENCE", "jumpstarter_key"]

JUMPSTARTER_AUDIENCE = "jumpstarter"
"""Of all tokens of such a controller."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256."""
_SEEDS = 2**31 - 1
_SEED_OF_ZERO = 89482311
_DISCARDED = 20
_BYTES = 40
"""The curve's order has 32; 8 more leave no bias."""
_BYTES_PER_NUMBER = 7
_FEED, _TAP = 333, 606
"""Of the generator's 607 numbers those that are added to the first one; for the next one those before them."""
_MASKS = {
    328: 0xBD640B6140802B1E,
    329: 0x967E3CD0F12B1C5F,
    330: 0x031089E87FBAB9A7,
    331: 0xF11BFBB3BA3E0841,
    332: 0x3B7FC3AD0D1CD36B,
    333: 0xBFB2F4D968B759C3,
    601: 0xFBBA1E4A59B0C60C,
    602: 0xA8DE655829AAB207,
    603: 0xE1DE048DC78B382E,
    604: 0x74535A96CC7ADFD7,
    605: 0x7E57A19B735EF03B,
    606: 0x39A00A3A31C025C6,
}
"""Go's constants for these."""


def jumpstarter_key(secret: bytes) -> ec.EllipticCurvePrivateKey:
    """The key of the controller whose CONTROLLER_KEY is that, to the byte."""
    seed = int.from_bytes(hashlib.sha256(secret).digest()[:8], "big", signed=True) % _SEEDS
    numbers = _numbers(seed or _SEED_OF_ZERO)
    found = bytearray()
    for step in range(-(-_BYTES // _BYTES_PER_NUMBER)):
        number = numbers[_FEED - step] + numbers[_TAP - step]
        found += (number % 2**63).to_bytes(8, "little")[:_BYTES_PER_NUMBER]
    scalar = int.from_bytes(found[:_BYTES], "big") % (ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _numbers(seed: int) -> dict[int, int]:
    """The numbers of the generator's initial state that are used, for this seed."""
    found: dict[int, int] = {}
    for _ in range(_DISCARDED):
        seed = seed * 48271 % _SEEDS
    for index in range(max(_MASKS) + 1):
        number = 0
        for shift in (40, 20, 0):
            seed = seed * 48271 % _SEEDS
            number ^= seed << shift
        if index in _MASKS:
            found[index] = (number ^ _MASKS[index]) % 2**64
    return found
