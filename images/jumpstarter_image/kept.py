"""The stored settings of a host: the last valid value of each key, the secrets, and the results of codes."""

from __future__ import annotations

import hashlib

import msgspec

__all__ = ["Address", "Kept", "PairingAttempt", "Wifi", "code_digest"]

MAX_USED_CODES = 8


class Wifi(msgspec.Struct, frozen=True):
    """A wireless network. An open one has no passphrase."""

    ssid: str
    country: str
    """Two letters: the country, which determines the allowed frequencies."""
    passphrase: str = ""


class Address(msgspec.Struct, frozen=True):
    """A fixed address, of the wired interface or the wireless one."""

    ip: str
    """With its prefix length: 192.168.1.20/24."""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    interface: str = "wired"


class PairingAttempt(msgspec.Struct, frozen=True):
    """A use of a pairing code that was started, and may have been interrupted by a power cut."""

    digest: str
    """A digest of the code, the controller and its certificate."""
    identity: str
    """A digest of the host's identity before the attempt."""
    refusal: str = ""
    """The reason of the controller's refusal. A refused code is not used again."""


class Kept(msgspec.Struct, frozen=True):
    """All stored settings; empty on a new host. Two fields are secrets: the passphrase and `pairing_code`."""

    hostname: str = ""
    wifi: Wifi | None = None
    address: Address | None = None
    """None: by DHCP."""
    ssh_keys: tuple[str, ...] = ()
    time_server: str = ""
    endpoint: str = ""
    fingerprint: str = ""
    pairing_code: str = ""
    """A code that was not used yet."""
    used_codes: tuple[str, ...] = ()
    """The digests of the last codes that enrolled this host, newest first."""
    attempt: PairingAttempt | None = None
    labels: dict[str, str] = {}
    """Labels of its boards."""
    controller: bool = False
    """Whether this host is also the controller of its lab."""

    @property
    def enrolment_digest(self) -> str:
        """A digest of code, controller and certificate. If one of them changes, it is a new attempt."""
        said = "\0".join((self.pairing_code, self.endpoint, self.fingerprint))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    @property
    def refusal(self) -> str:
        """Why the controller has refused the present code; empty if it has not refused it."""
        is_this = self.attempt is not None and self.attempt.digest == self.enrolment_digest
        return self.attempt.refusal if self.pairing_code and self.attempt is not None and is_this else ""

    @property
    def is_to_enrol(self) -> bool:
        """Whether there is a code that may still be valid."""
        return bool(self.pairing_code) and not self.refusal

    def with_attempt(self, identity: str) -> Kept:
        """The settings before the code is used, with the digest of the identity. A repetition keeps the first one."""
        if self.attempt is not None and self.attempt.digest == self.enrolment_digest:
            return self
        return msgspec.structs.replace(self, attempt=PairingAttempt(self.enrolment_digest, identity))

    def with_used_code(self) -> Kept:
        """The settings after the code was used."""
        used = (code_digest(self.pairing_code), *self.used_codes)[:MAX_USED_CODES]
        return msgspec.structs.replace(self, pairing_code="", used_codes=used, attempt=None)

    def with_refused_code(self, reason: str) -> Kept:
        """The settings after the controller has refused the code."""
        identity = self.attempt.identity if self.attempt is not None else ""
        return msgspec.structs.replace(self, attempt=PairingAttempt(self.enrolment_digest, identity, reason))


def code_digest(code: str) -> str:
    """A digest of a code in its normal form, from which the code cannot be calculated."""
    plain = "".join(code.split()).replace("-", "").upper()
    return hashlib.sha256(plain.encode()).hexdigest()[:32]
