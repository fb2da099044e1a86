"""Read `jumpstarter.yaml` strictly. A key that is missing or has no value keeps its previous value.

Each key is read separately, also one below another, so all faults of a file are found at once, each with its place. The
text of a fault never contains the value of a secret, because everybody who has the card can read the status.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from jumpstarter_proto.addresses import AddressSyntaxError, split_host_port
from jumpstarter_proto.yaml_files import ConfigError, Document, kind_of, nearest

from jumpstarter_image.kept import Address, Kept, Wifi, code_digest

__all__ = ["FILE", "KEYS", "Fault", "Reading", "read_site", "secrets_to_remove"]

FILE = Path("jumpstarter.yaml")
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")
_ADDRESS_LIKE = re.compile(r"[0-9.]+|.*:.*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_QUOTED = re.compile(r"(['\"`]).{2,}?\1")
_IS_NO_CONTENT = re.compile(r"\s*#|---\s*(#.*)?$")
_TWICE = "is there twice; keep one"
_NO_MAPPING = "it begins with keys such as `hostname:`"
_BELOW = {
    "wifi": ("country", "ssid", "passphrase"),
    "address": ("ip", "gateway", "dns", "interface"),
}
_OF_BOARDS = ("apiVersion", "export", "kind", "metadata")
_KEY_FIELDS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    **{f"ecdsa-sha2-nistp{bits}": 3 for bits in (256, 384, 521)},
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""The types of keys that sshd takes, and how many fields each has. A certificate is none of them."""
_MIN_RSA_BYTES = 128
"""sshd refuses a shorter one (RequiredRSASize in sshd_config(5))."""
_IP_WITH_ZONE = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]{1,15})?")
"""Python takes anything behind the `%`: also blanks and quotes, which mean something in files of other programs."""
_SPELT_LIKE_A_KEY = re.compile(r"[A-Za-z_-]{1,20}")


@dataclass(frozen=True)
class Fault:
    """A fault of the file."""

    message: str
    key: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """One sentence, with its place in the file."""
        return self.sentence(FILE)

    def sentence(self, file: Path) -> str:
        """The same, for a file of another name."""
        place = f", line {self.line}, column {self.column}" if self.line else ""
        return f"{file}{place}: {self.key}{self.key and ': '}{self.message}"


@dataclass(frozen=True)
class Reading:
    """The previous settings, changed by the file."""

    kept: Kept
    faults: tuple[Fault, ...] = ()


class _Part:
    """Keeps the error of what is read inside. A class, so that type checkers know that it does."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = errors

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, ConfigError):
            self.errors.append(error)
        return isinstance(error, ConfigError)


class _Section:
    """The value of one key, with its place for errors. `errors` are those that did not end its reading."""

    def __init__(
        self, document: Document, source: str, value: Any, *path: str, errors: list[ConfigError]
    ) -> None:
        self.document = document
        self.source = source
        self.value = value
        self.path = path
        self.errors = errors

    def below(self, key: str, value: Any) -> _Section:
        return _Section(self.document, self.source, value, *self.path, key, errors=self.errors)

    def part(self) -> _Part:
        """Read a part of the value; an error of it is kept, and the next part is read, too."""
        return _Part(self.errors)

    def error(self, message: str, *below: str | int) -> ConfigError:
        return self.document.error((*self.path, *below), message)

    def is_cut(self, key: str) -> bool:
        """Whether YAML takes a part of a text without quotes for a comment or for an anchor."""
        line = self.error("", key).line
        if key not in self.value or line is None:
            return False
        _, _, written = _lines(self.source)[line - 1].partition(key)
        return re.match(r"""['"]?\s*:\s+(&|#|[^'"\s].*\s#)""", written) is not None

    def text(self, *, secret: bool = False) -> str:
        """The value as one line of text. Numbers, `no` and dates must be in quotes in YAML."""
        return self._text(self.value, secret=secret)

    def _text(self, value: Any, *below: int, secret: bool = False) -> str:
        if not isinstance(value, str):
            what = kind_of(value)
            cure = "it takes text" if what in ("a mapping", "a list", "empty") else "put it in quotes"
            raise self.error(f"this is {what}; {cure}", *below)
        if any(character < " " or character == "\x7f" for character in value):
            raise self.error("this has characters that cannot be in it; write it on one line", *below)
        if not secret and len(value) > 4096:
            raise self.error("this is too long; is it meant so?", *below)
        return value

    def texts(self) -> dict[int, str]:
        """The items of a list that are text, by their indices."""
        if not isinstance(self.value, list):
            raise self.error(
                f"this is {kind_of(self.value)}; it takes a list, each on a line that begins with `- `"
            )
        texts: dict[int, str] = {}
        for index, item in enumerate(self.value):
            with self.part():
                texts[index] = self._text(item, index)
        return texts

    def keys(self, *known: str) -> dict[str, _Section]:
        """The mapping in this key; keys without a value are left out."""
        if not isinstance(self.value, Mapping):
            raise self.error(f"this is {kind_of(self.value)}; it takes the keys {', '.join(known)} below it")
        unknown = [key for key in self.value if key not in known]
        self.errors += [_unknown_key(self.document, (*self.path, key), known) for key in unknown]
        return {
            key: self.below(key, value)
            for key, value in self.value.items()
            if value is not None and key in known
        }


def read_site(text: str, before: Kept) -> Reading:
    """Read the file. If it has a fault, only settings that cannot cut the host off are used.

    These are additional SSH keys, and a first name or Wi-Fi network.
    """
    try:
        document = _document(text)
    except ConfigError as error:
        return Reading(before, (_fault(error),))
    faults: list[Fault] = []
    found: dict[str, Any] = {}
    for key, value in ({} if document is None else document.data).items():
        if value is None and key in KEYS:
            continue
        assert document is not None
        if key not in KEYS:
            cure = _cure_of_key(key)
            errors = [document.error((key,), cure) if cure else _unknown_key(document, (key,), KEYS)]
        else:
            section = _Section(document, text, value, key, errors=[])
            with section.part():
                read = KEYS[key](section, before)
            errors = section.errors
            if not errors:
                found |= read
        faults += [_fault(error) for error in errors]
    after = msgspec.structs.replace(before, **found)
    if document is not None:
        try:
            _check_together(document, found, before, after)
        except ConfigError as error:
            faults.append(_fault(error))
    if not faults:
        return Reading(after)
    return Reading(_rescued(before, found), tuple(faults))


def _unknown_key(document: Document, path: tuple[str | int, ...], known: Collection[str]) -> ConfigError:
    """The error about a key. It names only a misspelt key: without the blank behind its colon, a key has the secret."""
    key, hint = str(path[-1]), nearest(path[-1], known)
    if _SPELT_LIKE_A_KEY.fullmatch(key) and hint.startswith("did you mean"):
        return document.error(path, f"unknown key; {hint}")
    meant = next((name for name in known if re.match(rf"{name}\W", key)), None)
    if meant is not None:
        hint = f"write `{meant}`, a colon and a blank before the value"
    error = document.error(path, f"unknown key; {hint}")
    error.path = path[:-1]
    return error


def _rescued(before: Kept, found: Mapping[str, Any]) -> Kept:
    taken: dict[str, Any] = {
        key: found[key] for key in ("hostname", "wifi") if key in found and not getattr(before, key)
    }
    if "ssh_keys" in found:
        taken["ssh_keys"] = tuple(dict.fromkeys((*before.ssh_keys, *found["ssh_keys"])))
    return msgspec.structs.replace(before, **taken)


def _check_together(document: Document, found: Mapping[str, Any], before: Kept, after: Kept) -> None:
    if found.get("pairing_code") and not after.endpoint and not after.controller:
        raise document.error(("pairingCode",), "the controller is not known; add `endpoint`, its HOST:PORT")
    if found.get("pairing_code") and after.controller:
        raise document.error(
            ("pairingCode",),
            "this host is the controller itself, which needs no code; remove one of the two keys",
        )
    if after.address is not None and after.address.interface == "wifi" and after.wifi is None:
        raise document.error(("address", "interface"), "there is no `wifi`; add it, or write `wired`")


def _document(text: str) -> Document | None:
    """Parse the file; None if it contains only comments. A ConfigError shows at most one character of the file."""
    if all(not line.strip() or _IS_NO_CONTENT.match(line) for line in text.splitlines()):
        return None
    try:
        document = Document(FILE, "hostname", text.encode())
    except ConfigError as error:
        place = None if error.line is None or error.column is None else (error.line, error.column)
        # The place may be after the last line.
        lines = [*_lines(text), ""]
        if error.message.endswith(_NO_MAPPING):
            first = next((number for number, line in enumerate(lines, 1) if _has_content(line)), 1)
            place, message = (
                (first, 1),
                "this is not a setting; write KEY: VALUE, with a blank after the colon",
            )
        elif error.message.endswith(_TWICE) and error.path and error.path[-1] in _ALL_KEYS:
            message = error.message
        else:
            at = (error.line or len(lines)) - 1
            message = _yaml_cure(error.message, lines[at], next(filter(_has_content, lines[:at][::-1]), ""))
        raise ConfigError(message, file=FILE, place=place) from None
    return document


def _lines(text: str) -> list[str]:
    """The lines as YAML counts them."""
    return re.split("\r\n|[\r\n\x85\u2028\u2029]", text)


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not _IS_NO_CONTENT.match(line)


def _yaml_cure(message: str, line: str, above: str) -> str:
    """What is to be changed in the line, for somebody who does not know YAML. It shows nothing of the line."""
    indent, indent_above = (len(one) - len(one.lstrip(" ")) for one in (line, above))
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "the line begins with a tab; YAML takes blanks there"
    if message.startswith("the tag ") or any(
        words in message for words in ("cannot start any token", "undefined alias")
    ):
        return "put the text after the colon in quotes, because of the sign that it begins with"
    is_structure = "mapping values are not allowed" in message or "did not find expected" in message
    if is_structure and indent > indent_above and not above.rstrip().endswith(":"):
        return (
            "the line begins with more blanks than the line above it; remove them, "
            "or the `#` before the key that it belongs to"
        )
    if is_structure and indent < indent_above:
        return "the line begins with fewer blanks than the line above it; remove the blanks there, if it is a key, too"
    if "mapping values are not allowed" in message:
        if line.count(": ") > 1:
            return "put the text after the first colon in quotes, because it contains another colon"
        if ": " not in above and not above.rstrip().endswith(":"):
            return "the line above is not a setting; write KEY: VALUE there, with a blank after the colon"
    return _QUOTED.sub("...", message)


def _cure_of_key(key: str) -> str:
    """What to do with a key that belongs elsewhere; empty for any other."""
    if key in _OF_BOARDS:
        return "this file has the settings of the host; boards are described on it, in /etc/jumpstarter/exporters"
    owner = next((owner for owner, below in _BELOW.items() if key in below), "")
    return owner and f"this is a key of `{owner}`; put it below `{owner}:`, with two blanks before it"


def _fault(error: ConfigError) -> Fault:
    key = ".".join(str(part) for part in error.path if isinstance(part, str))
    return Fault(error.message, key if len(key) <= 80 else "", error.line, error.column)


def _hostname(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    name = section.text()
    if not _HOST_LABEL.fullmatch(name):
        raise section.error(
            f"{name[:70]!r} is not a valid host name; use lower-case letters, digits and `-`, at most 63"
        )
    if name == "localhost":
        raise section.error("every host calls itself localhost; choose a name of its own, such as lab-pi")
    return {"hostname": name}


def _wifi(section: _Section, before: Kept) -> dict[str, Any]:
    if section.value == "none":
        return {"wifi": None}
    keys = section.keys(*_BELOW["wifi"])
    known = before.wifi
    ssid, country, passphrase = (
        ("", "", "") if known is None else (known.ssid, known.country, known.passphrase)
    )
    with section.part():
        ssid = keys["ssid"].text() if "ssid" in keys else ssid
        if not 1 <= len(ssid.encode()) <= 32:
            raise section.error(
                "the name of the network, `ssid`, is missing, or has more than 32 bytes", "ssid"
            )
    with section.part():
        country = keys["country"].text() if "country" in keys else country
        if not re.fullmatch("[A-Z]{2}", country):
            raise section.error(
                "the radio needs a country: two upper-case letters, such as DE or US", "country"
            )
        if country == "UK":
            raise section.error("the country code of the United Kingdom is GB", "country")
    with section.part():
        if section.is_cut("passphrase"):
            raise section.error(
                "put the passphrase in quotes, because of its `#` or `&`; a comment needs a line of its own",
                "passphrase",
            )
        if "passphrase" in keys:
            passphrase = _passphrase(keys["passphrase"])
        elif known is None or known.ssid != ssid:
            raise section.error("`passphrase` is missing for this network; add it, or `passphrase: none`")
    return {"wifi": Wifi(ssid, country, passphrase)}


def _passphrase(section: _Section) -> str:
    passphrase = section.text(secret=True)
    if passphrase == "none":  # noqa: S105 - the word for an open network
        return ""
    is_plain = 8 <= len(passphrase) <= 63 and passphrase.isascii()
    if not is_plain and not _HEX.fullmatch(passphrase):
        raise section.error(
            "a passphrase has 8 to 63 letters, digits and signs of ASCII, or is a key of 64 hexadecimal digits"
        )
    return passphrase


def _address(section: _Section, before: Kept) -> dict[str, Any]:
    if section.value == "dhcp":
        return {"address": None}
    keys = section.keys(*_BELOW["address"])
    own, gateway, interface = None, "", ""
    dns: dict[int, str] = {}
    with section.part():
        if "ip" not in keys:
            raise section.error("`ip` is missing, such as 192.168.1.20/24; or write `address: dhcp`")
        own = _own_address(keys["ip"])
    with section.part():
        gateway = keys["gateway"].text() if "gateway" in keys else ""
        router = _ip(keys["gateway"], gateway) if gateway else None
        if own is not None and router is not None and not _is_router_of(own, router):
            raise section.error(
                f"{gateway} is not another address of {own.network}; it takes the router's", "gateway"
            )
    with section.part():
        dns = keys["dns"].texts() if "dns" in keys else {}
    for index, server in dns.items():
        with section.part():
            _ip(keys["dns"], server, index)
    with section.part():
        interface = keys["interface"].text() if "interface" in keys else ""
        if interface not in ("", "wired", "wifi"):
            raise section.error(f"{interface[:60]!r} is neither `wired` nor `wifi`", "interface")
    if own is None:
        return {}
    wireless = section.document.data.get("wifi", before.wifi) not in (None, "none")
    interface = interface or ("wifi" if wireless else "wired")
    return {"address": Address(own.with_prefixlen, gateway, tuple(dns.values()), interface)}


def _is_router_of(
    own: ipaddress.IPv4Interface | ipaddress.IPv6Interface,
    router: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> bool:
    is_near = router in own.network or (own.version == 6 and router.is_link_local)
    return router != own.ip and is_near


def _own_address(section: _Section) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address that a host can have, also with a netmask in place of the prefix length."""
    text = section.text()
    try:
        own = ipaddress.ip_interface(text)
    except ValueError:
        own = None
    if own is None or "/" not in text or "%" in text:
        raise section.error(f"{text[:60]!r} is not an address with a prefix length, such as 192.168.1.20/24")
    net = own.network
    is_whole = (
        own.version == 4 and net.prefixlen < 31 and own.ip in (net.network_address, net.broadcast_address)
    )
    ip = own.ip
    if (
        not net.prefixlen
        or is_whole
        or ip.is_unspecified
        or ip.is_loopback
        or ip.is_multicast
        or ip.is_reserved
    ):
        raise section.error(
            f"{text[:60]!r} is not an address that one host can have, such as 192.168.1.20/24"
        )
    return own


def _parsed_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text) if _IP_WITH_ZONE.fullmatch(text) else None
    except ValueError:
        return None


def _ip(section: _Section, text: str, *below: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = _parsed_ip(text)
    if found is None:
        raise section.error(f"{text[:60]!r} is not an IP address", *below)
    return found


def _ssh_keys(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    if section.value == []:
        raise section.error(
            "without a key no login is possible; add one, or remove `sshKeys` to keep the previous keys"
        )
    keys = {index: key.strip() for index, key in section.texts().items()}
    for index, key in keys.items():
        kind, _, rest = key.partition(" ")
        with section.part():
            if "PRIVATE KEY" in key:
                raise section.error("this is a private key; use the line of the .pub file", index)
            if not _is_key(kind, rest.split(" ")[0]):
                raise section.error(
                    "this is not a public key; use a whole line such as `ssh-ed25519 AAAA... name`", index
                )
    return {"ssh_keys": tuple(keys.values())}


def _is_key(kind: str, data: str) -> bool:
    """Whether sshd would take it: also the end of the key is there, which a line that was cut or wrapped has lost."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    fields: list[bytes] = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "big")
        if len(raw) < end:
            return False
        fields.append(raw[4:end])
        raw = raw[end:]
    if not fields or fields[0] != kind.encode() or len(fields) != _KEY_FIELDS.get(kind):
        return False
    return all(fields) and (kind != "ssh-rsa" or len(fields[2]) >= _MIN_RSA_BYTES)


def _is_host(text: str) -> bool:
    """Whether the text is a host name or an IP address. A text that looks like an address must be a valid one."""
    if _ADDRESS_LIKE.fullmatch(text):
        return _parsed_ip(text) is not None
    return _HOST_NAME.fullmatch(text) is not None


def _time_server(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    server = section.text()
    if server == "none":
        return {"time_server": ""}
    if not _is_host(server):
        raise section.error(f"{server[:60]!r} is not the name or address of a time server")
    return {"time_server": server}


def _endpoint(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    endpoint = section.text().strip()
    try:
        host, _ = split_host_port(endpoint)
    except AddressSyntaxError as error:
        raise section.error(str(error)) from None
    if not _is_host(host):
        raise section.error(
            f"{endpoint[:60]!r} is not the address of a controller; use HOST:PORT, such as lab:8082"
        )
    return {"endpoint": endpoint}


def _fingerprint(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    fingerprint = section.text()
    if not _HEX.fullmatch(fingerprint.replace(":", "")):
        raise section.error(
            "this is not the fingerprint of a certificate (64 hexadecimal digits); copy it as the controller prints it"
        )
    return {"fingerprint": fingerprint}


def _pairing_code(section: _Section, before: Kept) -> dict[str, Any]:
    code = section.text(secret=True).strip()
    if not re.fullmatch(r"[A-Za-z0-9 -]{4,100}", code):
        raise section.error(
            "this is not a pairing code; copy it as `jumpstarter-controller admin pair host` prints it"
        )
    if not code.upper().startswith("HOST"):
        raise section.error(
            "this is not a code for a host, which begins with HOST; `jumpstarter-controller admin pair host NAME` "
            "prints one"
        )
    return {} if code_digest(code) in before.used_codes else {"pairing_code": code}


def _labels(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    if not isinstance(section.value, Mapping):
        raise section.error(
            f"this is {kind_of(section.value)}; it takes `key: value` lines, or {{}} for none"
        )
    labels: dict[str, str] = {}
    for key, value in section.value.items():
        with section.part():
            if not isinstance(key, str):
                raise section.error(
                    f"the key {str(key)[:60]!r} is {kind_of(key)}; put it in quotes", str(key)
                )
            label = section.below(key, value).text()
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(label):
                raise section.error(
                    "a label has letters, digits, `-`, `_` and `.`, at most 63 in each of its parts", key
                )
            labels[key] = label
    return {"labels": labels}


def _controller(section: _Section, before: Kept) -> dict[str, Any]:
    del before
    if not isinstance(section.value, bool):
        raise section.error(f"this is {kind_of(section.value)}; it takes `true` or `false`")
    return {"controller": section.value}


KEYS: Mapping[str, Callable[[_Section, Kept], dict[str, Any]]] = {
    "hostname": _hostname,
    "wifi": _wifi,
    "address": _address,
    "sshKeys": _ssh_keys,
    "timeServer": _time_server,
    "endpoint": _endpoint,
    "fingerprint": _fingerprint,
    "pairingCode": _pairing_code,
    "labels": _labels,
    "controller": _controller,
}


_ALL_KEYS = frozenset(KEYS).union(*_BELOW.values())


def secrets_to_remove(text: str, kept: Kept) -> list[tuple[str, ...]]:
    """The paths of secrets in the file that are stored or used, and no longer needed there."""
    try:
        document = _document(text)
    except ConfigError:
        return []
    data = {} if document is None else document.data
    found: list[tuple[str, ...]] = []
    wifi = data.get("wifi")
    if isinstance(wifi, Mapping) and kept.wifi is not None and wifi.get("passphrase"):
        # In a file that was not used, the passphrase of another network is not stored.
        is_this = wifi.get("ssid") in (None, kept.wifi.ssid)
        if is_this and wifi["passphrase"] == kept.wifi.passphrase:
            found.append(("wifi", "passphrase"))
    code = data.get("pairingCode")
    if isinstance(code, str) and code_digest(code) in kept.used_codes:
        found.append(("pairingCode",))
    return found
