"""What a host knows of itself: the last valid word of each key of the file, its secrets, and what became of codes."""

from __future__ import annotations

import hashlib

import msgspec

__all__ = ["Address", "Attempt", "Kept", "Wifi", "code_digest"]

MAX_USED_CODES = 8


class Wifi(msgspec.Struct, frozen=True):
    """A wireless network. An open one has no passphrase."""

    ssid: str
    country: str
    """Two letters: where the radio is, which says what it may send."""
    passphrase: str = ""


class Address(msgspec.Struct, frozen=True):
    """A fixed address, of the wired interface or the wireless one."""

    ip: str
    """With its prefix length: 192.168.1.20/24."""
    gateway: str = ""
    dns: tuple[str, ...] = ()
    interface: str = "wired"


class Attempt(msgspec.Struct, frozen=True):
    """A use of a pairing code that has begun, and may have been cut off by the power."""

    digest: str
    """Of the code and of what it was used at."""
    identity: str
    """Of the host's identity before."""
    refusal: str = ""
    """The controller's word, after which the code is not used again."""


class Kept(msgspec.Struct, frozen=True):
    """All of it; a new host knows nothing. Two of the fields are secrets: the passphrase and `pairing_code`."""

    hostname: str = ""
    wifi: Wifi | None = None
    address: Address | None = None
    """None: the network says which, by DHCP."""
    ssh_keys: tuple[str, ...] = ()
    time_server: str = ""
    endpoint: str = ""
    fingerprint: str = ""
    pairing_code: str = ""
    """One that was not used yet."""
    used_codes: tuple[str, ...] = ()
    """The digests of the last codes that made this host what it is, the last one first."""
    attempt: Attempt | None = None
    labels: dict[str, str] = {}
    """Of its boards at the controller."""
    controller: bool = False
    """Whether this host is the controller of its lab, too."""

    @property
    def enrolment_digest(self) -> str:
        """What is to be done with a code: another code, controller or certificate is another try."""
        said = "\0".join((self.pairing_code, self.endpoint, self.fingerprint))
        return hashlib.sha256(said.encode()).hexdigest()[:32]

    @property
    def refusal(self) -> str:
        """Why the controller has refused the code that is there; empty if it has not."""
        is_this = self.attempt is not None and self.attempt.digest == self.enrolment_digest
        return self.attempt.refusal if self.pairing_code and self.attempt is not None and is_this else ""

    @property
    def is_to_enrol(self) -> bool:
        """Whether there is a code that may still be good."""
        return bool(self.pairing_code) and not self.refusal

    def with_attempt(self, identity: str) -> Kept:
        """Before the code is used by a host whose identity has this digest; of a second try the first one counts."""
        if self.attempt is not None and self.attempt.digest == self.enrolment_digest:
            return self
        return msgspec.structs.replace(self, attempt=Attempt(self.enrolment_digest, identity))

    def with_used_code(self) -> Kept:
        """After the code has done its work."""
        used = (code_digest(self.pairing_code), *self.used_codes)[:MAX_USED_CODES]
        return msgspec.structs.replace(self, pairing_code="", used_codes=used, attempt=None)

    def with_refused_code(self, reason: str) -> Kept:
        """After the controller has refused it."""
        identity = self.attempt.identity if self.attempt is not None else ""
        return msgspec.structs.replace(self, attempt=Attempt(self.enrolment_digest, identity, reason))


def code_digest(code: str) -> str:
    """A code's, however it was typed; nobody makes the code of it again."""
    plain = "".join(code.split()).replace("-", "").upper()
    return hashlib.sha256(plain.encode()).hexdigest()[:32]
