from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jumpstarter_image.kept import Address, Kept, Wifi
from jumpstarter_image.plan import files_of, hostname_of
from jumpstarter_image.settings import KEYS, read_site, secrets_to_remove
from jumpstarter_image.site_text import MAX_BYTES, NotTextError, SiteText

EXAMPLE = Path(__file__).parents[1] / "jumpstarter.yaml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@laptop"
KNOWN = Kept(hostname="old", wifi=Wifi("Lab", "DE", "a passphrase"), ssh_keys=(KEY,), endpoint="lab:8082")
SECRET = "sEcReT-of-ann"


def fault(text: str, before: Kept = KNOWN) -> str:
    """The only fault of a file."""
    [found] = read_site(text, before).faults
    return str(found)


# What is shipped


def test_the_example_says_nothing_as_it_is_shipped() -> None:
    assert read_site(EXAMPLE.read_text(), KNOWN) == read_site("", KNOWN)
    assert read_site("", KNOWN).kept == KNOWN
    assert read_site("", KNOWN).faults == ()


def test_the_example_is_valid_with_all_of_it_uncommented_and_explains_each_key() -> None:
    text = re.sub(r"^#(?=[^ ]|  )", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    assert set(yaml.safe_load(text)) == set(KEYS)
    reading = read_site(text, Kept())
    assert reading.faults == ()
    assert reading.kept == Kept(
        hostname="lab-pi",
        wifi=Wifi("My network", "DE", "correct horse battery staple"),
        address=Address("192.168.1.20/24", "192.168.1.1", ("192.168.1.1",), "wired"),
        ssh_keys=(KEY,),
        time_server="ntp.example.com",
        endpoint="lab.example.com:8082",
        fingerprint="3F:A0:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE",
        pairing_code="HOST-ABCD-EFGH-JKLM",
        labels={"rack": "3"},
    )


# What a key means


def test_a_key_that_is_missing_or_empty_means_as_it_was() -> None:
    assert read_site("wifi:\nhostname: new\nlabels:\n", KNOWN).kept.wifi == KNOWN.wifi
    after = read_site("wifi: {ssid: Lab}\nhostname: new\n", KNOWN)
    assert after.faults == ()
    assert after.kept == msgspec.structs.replace(KNOWN, hostname="new")
    assert read_site("wifi: {ssid: Lab, country: , passphrase: }\nhostname: new\n", KNOWN) == after


def test_what_was_set_is_taken_back_by_a_word() -> None:
    before = msgspec.structs.replace(KNOWN, address=Address("10.0.0.2/8"), time_server="ntp", controller=True)
    after = read_site("wifi: none\naddress: dhcp\ntimeServer: none\ncontroller: false\n", before).kept
    assert (after.wifi, after.address, after.time_server, after.controller) == (None, None, "", False)


def test_another_network_needs_its_own_passphrase_or_the_word_for_none() -> None:
    assert "wifi: `passphrase` is missing for this network" in fault("wifi: {ssid: Elsewhere}")
    assert read_site("wifi: {ssid: Elsewhere, passphrase: none}", KNOWN).kept.wifi == Wifi("Elsewhere", "DE")


@pytest.mark.parametrize("passphrase", ["x" * 8, "x" * 63, "aB" * 32])
@pytest.mark.parametrize("ssid", ["x" * 32, "é" * 16, "a"])
def test_a_network_may_be_as_long_as_wpa_takes_it(ssid: str, passphrase: str) -> None:
    reading = read_site(f"wifi: {{ssid: {ssid}, passphrase: {passphrase}}}", KNOWN)
    assert reading.faults == ()
    assert reading.kept.wifi == Wifi(ssid, "DE", passphrase)


def test_a_fixed_address_is_of_wifi_where_that_is_set_up() -> None:
    def interface(text: str, before: Kept) -> str:
        address = read_site(text, before).kept.address
        assert address is not None
        return address.interface

    assert interface("address: {ip: 10.0.0.2/8}", Kept()) == "wired"
    assert interface("address: {ip: 10.0.0.2/8}", KNOWN) == "wifi"
    assert interface("address: {ip: 10.0.0.2/8}\nwifi: none", KNOWN) == "wired"
    assert interface("address: {ip: 10.0.0.2/8, interface: wired}", KNOWN) == "wired"


# What is wrong


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hostname: a\nhostnam: b", "line 2, column 1: hostnam: unknown key; did you mean 'hostname'?"),
        ("ssh_keys: []", "line 1, column 1: ssh_keys: unknown key; did you mean 'sshKeys'?"),
        (
            "wifi:\n  pasphrase: x",
            "line 2, column 3: wifi.pasphrase: unknown key; did you mean 'passphrase'?",
        ),
        (
            "hostname: Lab Pi",
            "hostname: 'Lab Pi' is not a valid host name; use lower-case letters, digits and `-`",
        ),
        ("hostname: 12", "hostname: this is a number; put it in quotes"),
        ("hostname: [a]", "hostname: this is a list; it takes text"),
        (
            "wifi:\n  country: NO\n  ssid: Lab",
            "line 2, column 3: wifi.country: this is yes or no; put it in quotes",
        ),
        (
            "wifi: {country: de}",
            "wifi.country: the radio needs a country: two upper-case letters, such as DE or US",
        ),
        ("wifi: on", "wifi: this is yes or no; it takes the keys country, ssid, passphrase below it"),
        (
            "address: 10.0.0.2",
            "address: this is text; it takes the keys ip, gateway, dns, interface below it",
        ),
        (
            "address: {ip: 10.0.0.2}",
            "address.ip: '10.0.0.2' is not an address with a prefix length, such as 192.168.1.20/24",
        ),
        (
            "address: {ip: 10.0.0.2/24, gateway: 10.0.1.1}",
            "address.gateway: 10.0.1.1 is not another address of 10.0.0.0/24; it takes the router's",
        ),
        (
            "address: {ip: 10.0.0.2/24, gateway: 10.0.0.2}",
            "address.gateway: 10.0.0.2 is not another address of 10.0.0.0/24",
        ),
        ("address: {ip: 10.0.0.2/24, dns: [lab]}", "address.dns: 'lab' is not an IP address"),
        (
            "address:\n  ip: 10.0.0.2/24\n  dns:\n  - 10.0.0.1\n  - lab",
            "line 5, column 5: address.dns: 'lab'",
        ),
        ("labels: {3: rack}", "labels.3: the key '3' is a number; put it in quotes"),
        ("hostname: localhost", "hostname: every host calls itself localhost; choose a name of its own"),
        (
            "wifi: {passphrase:x y}",
            "column 8: wifi: unknown key; write `passphrase`, a colon and a blank before the",
        ),
        ("passphrase=x y: z", "column 1: unknown key; known are address, controller"),
        ("address: {gateway: 10.0.0.1}", "address: `ip` is missing, such as 192.168.1.20/24"),
        ("address: {ip: 10.0.0.2/24, interface: eth0}", "interface: 'eth0' is neither `wired` nor `wifi`"),
        (
            "wifi: none\naddress: {ip: 10.0.0.2/24, interface: wifi}",
            "address.interface: there is no `wifi`; add it, or write `wired`",
        ),
        (
            f"wifi: {{ssid: {'x' * 33}, passphrase: none}}",
            "wifi.ssid: the name of the network, `ssid`, is missing",
        ),
        (
            f"wifi: {{ssid: {'é' * 17}, passphrase: none}}",
            "wifi.ssid: the name of the network, `ssid`, is missing",
        ),
        ("wifi: {ssid: '', passphrase: none}", "wifi.ssid: the name of the network, `ssid`, is missing"),
        ("wifi: {country: DEU}", "wifi.country: the radio needs a country"),
        *(
            (f"wifi: {{passphrase: '{word}'}}", "wifi.passphrase: a passphrase has 8 to 63 letters")
            for word in ("x" * 7, "x" * 64, "f" * 65, "é" * 8)
        ),
        (f"hostname: {'x' * 64}", "hostname: 'xxx"),
        ('hostname: "a\\x7f"', "hostname: this has characters that cannot be in it"),
        ("sshKeys: []", "sshKeys: without a key no login is possible"),
        ("sshKeys: me", "sshKeys: this is text; it takes a list, each on a line that begins with `- `"),
        (
            "sshKeys:\n- ssh-rsa AAAA me",
            "line 2, column 3: sshKeys: this is not a public key; use a whole line",
        ),
        (
            f"sshKeys:\n- {KEY.replace('ssh-ed25519', 'ssh-rsa')}",
            "line 2, column 3: sshKeys: this is not a public key",
        ),
        (
            f"sshKeys:\n- {KEY}\n- '-----BEGIN OPENSSH PRIVATE KEY-----'",
            "line 3, column 3: sshKeys: this is a private key; use the line of the .pub file",
        ),
        ("timeServer: 300.1.1.1", "timeServer: '300.1.1.1' is not the name or address of a time server"),
        ("timeServer: ntp.lab:123", "timeServer: 'ntp.lab:123' is not the name or address of a time server"),
        ("endpoint: 10.0.0.256:8082", "endpoint: '10.0.0.256:8082' is not the address of a controller"),
        ("timeServer: 'a b'", "timeServer: 'a b' is not the name or address of a time server"),
        ("endpoint: lab:x", "endpoint: "),
        ("endpoint: http://lab", "endpoint: "),
        ("fingerprint: 3F:A0", "fingerprint: this is not the fingerprint of a certificate"),
        ("labels: {rack: 3}", "labels.rack: this is a number; put it in quotes"),
        ("labels: {rack: 'a b'}", "labels.rack: a label has letters, digits, `-`, `_` and `.`"),
        ("labels: {'a,b': c}", "a label has letters, digits"),
        ("labels: rack", "labels: this is text; it takes `key: value` lines"),
        (f"labels: {{rack: {'x' * 64}}}", "labels.rack: a label has letters, digits"),
        ("controller: maybe", "controller: this is text; it takes `true` or `false`"),
        ("hostname: a\nhostname: b", "line 2, column 1: 'hostname' is there twice; keep one"),
        ("hostname: a\n\twifi: b", "line 2, column 1: the line begins with a tab; YAML takes blanks there"),
        (
            "hostname: a\n    endpoint: b",
            "line 2, column 13: the line begins with more blanks than the line above",
        ),
        ("hostname: a\n#wifi:\n  ssid: b", "remove them, or the `#` before the key that it belongs to"),
        (
            "    endpoint: b\nhostname: a",
            "line 2, column 1: the line begins with fewer blanks than the line above",
        ),
        (
            "- hostname",
            "line 1, column 1: this is not a setting; write KEY: VALUE, with a blank after the colon",
        ),
        ("# a\n\nhostname:a", "line 3, column 1: this is not a setting"),
        (
            "hostname=a\nendpoint: b",
            "line 2, column 9: the line above is not a setting; write KEY: VALUE there",
        ),
        ("wifi:\n  passphrase: one: two", "line 2, column 18: put the text after the first colon in quotes"),
        *(
            (
                f"wifi:\n  passphrase: {sign}secret12",
                "line 2, column 15: put the text after the colon in quotes",
            )
            for sign in "!@%`*"
        ),
        (
            "wifi:\nssid: b",
            "line 2, column 1: ssid: this is a key of `wifi`; put it below `wifi:`, with two blanks",
        ),
        ("address:\nip: 10.0.0.2/8", "ip: this is a key of `address`; put it below `address:`"),
        (
            "export:\n  power: {}",
            "export: this file has the settings of the host; boards are described on it",
        ),
        (
            "wifi:\n  country: UK",
            "line 2, column 3: wifi.country: the country code of the United Kingdom is GB",
        ),
        ("pairingCode: ZCA3-XYWM-ZCH5", "pairingCode: this is not a code for a host, which begins with HOST"),
    ],
)
def test_a_fault_has_its_place_and_says_what_to_write(text: str, sentence: str) -> None:
    said = fault(text)
    assert said.startswith("jumpstarter.yaml")
    assert sentence in said


def test_all_faults_are_found_at_once() -> None:
    reading = read_site("hostnam: a\nendpoint: lab:1\nfingerprint: x\n", KNOWN)
    assert [one.key for one in reading.faults] == ["hostnam", "fingerprint"]
    assert reading.kept == KNOWN


def test_all_faults_below_a_key_are_found_at_once() -> None:
    text = f"""
wifi: {{country: de, ssid: '', passphrase: short, hidden: 1, band: 5}}
address: {{ip: 10.0.0.0/8, gateway: lab, dns: [1, lab], interface: eth0}}
sshKeys: [1, {KEY}, me]
labels: {{rack: 3, 'a,b': c, room: lab}}
"""
    reading = read_site(text, KNOWN)
    assert [one.key for one in reading.faults] == [
        *("wifi", "wifi", "wifi.ssid", "wifi.country", "wifi.passphrase"),
        *("address.ip", "address.gateway", "address.dns", "address.dns", "address.interface"),
        *("sshKeys", "sshKeys", "labels.rack", "labels.a,b"),
    ]
    assert reading.kept == KNOWN


@pytest.mark.parametrize(
    "line",
    [
        *("passphrase: correct horse #1", "passphrase: correct-horse\t# 1", "passphrase: #1 correct horse"),
        *("passphrase: &correct horse battery", "'passphrase' : a#b correct #1", "passphrase: &correct"),
    ],
)
def test_a_passphrase_that_yaml_would_cut_off_needs_quotes(line: str) -> None:
    """The rest would be no part of it, and stay in the file when the host removes the secret."""
    said = fault(f"wifi:\n  {line}\n")
    assert "line 2, column 3: wifi.passphrase: put the passphrase in quotes" in said
    for whole in ("'correct #1'", '"correct & # 1"', "'correct horse' # 1", "correct#horse&1"):
        assert not read_site(f"wifi:\n  passphrase: {whole}\n", KNOWN).faults


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_a_line_is_what_yaml_counts(end: str) -> None:
    head = f"hostname: a{end}# one{end}# two{end}wifi:{end}"
    assert "line 5, column 3: wifi.passphrase: put" in fault(f"{head}  passphrase: correct #1{end}")
    assert "line 5, column 15: put the text after the colon in quotes" in fault(
        f"{head}  passphrase: @correct"
    )


def test_a_controller_is_named_with_its_port() -> None:
    said = fault("endpoint: lab")
    assert "endpoint: 'lab' is not an address: it has no port; write HOST:PORT such as" in said


def test_a_code_needs_a_controller_and_a_controller_no_code() -> None:
    code = "pairingCode: HOST-AAAA-BBBB"
    assert "pairingCode: the controller is not known; add `endpoint`" in fault(code, Kept())
    assert "remove one of the two keys" in fault(f"{code}\ncontroller: true")


@pytest.mark.parametrize(
    "text",
    [
        f"wifi: {{passphrase: {SECRET[:5]}}}",
        f"wifi:\n  passphrase: *{SECRET}",
        f"wifi:\n  passphrase: &{SECRET}\n",
        f"wifi:\n  passphrase: !{SECRET}\n",
        f"wifi:\n  passphrase: !{SECRET} x\n",
        f"wifi:\n  passphrase: %{SECRET}\n",
        f"wifi:\n  passphrase: @{SECRET}\n",
        f"wifi:\n  passphrase: '{SECRET}\n",
        f'wifi:\n  passphrase: "{SECRET}\\z"\n',
        f"wifi:\n  passphrase: [{SECRET}]\n",
        f"wifi:\n  passphrase: {SECRET}: {SECRET}\n",
        f"pairingCode: {SECRET}_{SECRET}\n",
        f"pairingCode: {{{SECRET}: 1}}\n",
        f"sshKeys:\n- '-----BEGIN OPENSSH PRIVATE KEY----- {SECRET}'\n",
        f"wifi:\n  passphrase: {SECRET}\n pairingCode: x\n",
        f"wifi:\n  passphrase: {SECRET}\n  passphrase: {SECRET}\n",
        f"wifi: {{passphrase:{SECRET}}}",
        f"wifi: {{passphrase {SECRET}}}",
        f"wifi: {{ssid: Lab, {SECRET}}}",
        f"wifi:\n  passphrase={SECRET}: x",
        f"wifi: {{{SECRET}: , {SECRET}: }}",
        f"{{endpoint: lab, pairingCode:{SECRET}}}",
        f"pairingCode {SECRET}: x",
        "wifi:\n  passphrase: 2026-02-45\n",
        "wifi:\n  passphrase: 12345678\n",
    ],
)
def test_a_secret_is_in_no_sentence(text: str) -> None:
    faults = read_site(text, Kept(endpoint="lab")).faults
    assert faults
    for said in map(str, faults):
        assert SECRET[:5] not in said
        assert "2026" not in said
        assert "1234" not in said


def test_a_faulty_file_takes_no_way_in_and_gives_those_that_cut_nobody_off() -> None:
    text = f"hostnam: x\nhostname: new\nwifi: {{ssid: New, passphrase: none}}\nsshKeys: ['{KEY} too']\ntimeServer: x\n"
    after = read_site(text, KNOWN).kept
    assert after == msgspec.structs.replace(KNOWN, ssh_keys=(KEY, f"{KEY} too"))
    new = read_site(text.replace("{ssid", "{country: DE, ssid"), Kept()).kept
    assert new == Kept(hostname="new", wifi=Wifi("New", "DE"), ssh_keys=(f"{KEY} too",))


def test_an_address_is_one_that_a_host_can_have_written_as_its_network_takes_it() -> None:
    def kept(address: str) -> Address | None:
        return read_site(f"address: {{{address}}}", Kept()).kept.address

    assert kept("ip: 192.168.1.20/255.255.255.0") == Address("192.168.1.20/24")
    assert kept('ip: "10.0.0.2/024"') == Address("10.0.0.2/24")
    assert kept('ip: "fd00:0::2/64", gateway: "fe80::1"') == Address("fd00::2/64", "fe80::1")
    assert kept("ip: 10.0.0.1/31") == Address("10.0.0.1/31")
    for ip in (
        *("0.0.0.0/0", "10.0.0.2/0", "127.0.0.1/8", "192.168.1.0/24", "192.168.1.255/24", "224.0.0.1/4"),
        *("255.255.255.255/32", "::/0", "::1/128", "ff02::1/64", "fe80::1%eth0/64"),
    ):
        assert fault(f'address: {{ip: "{ip}"}}', Kept()).startswith(
            f"jumpstarter.yaml, line 1, column 11: address.ip: '{ip}' is not an address "
        )
    assert "is not another address" in fault('address: {ip: "fd00::2/64", gateway: "fd00:0::2"}', Kept())


@pytest.mark.parametrize("zone", ["x y", 'x"', "x;y", "x\\", "#", "x%y", "a" * 16])
def test_a_zone_of_an_address_cannot_be_more_than_a_name(zone: str) -> None:
    """Other programs' files have it: of chronyd, of systemd-networkd, and the controller's options."""
    odd = f"fe80::1%{zone}"
    for data in (
        {"timeServer": odd},
        {"endpoint": f"[{odd}]:8082"},
        {"address": {"ip": "10.0.0.2/8", "dns": [odd]}},
    ):
        assert read_site(yaml.safe_dump(data), KNOWN).kept == KNOWN
    assert read_site("timeServer: fe80::1%eth0.7", KNOWN).kept.time_server == "fe80::1%eth0.7"


@pytest.mark.parametrize(
    "arguments",
    [
        *(["-t", "ed25519"], ["-t", "rsa", "-b", "1024"], ["-t", "rsa", "-b", "2048"]),
        *(["-t", "ecdsa", "-b", bits] for bits in ("256", "384", "521")),
    ],
)
def test_a_key_is_whole_or_none(arguments: list[str], tmp_path: Path) -> None:
    """A key that was cut by an editor replaces the previous ones, and lets nobody in."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("missing: ssh-keygen; apt install openssh-client")
    subprocess.run(
        ["ssh-keygen", "-q", "-N", "", "-C", "ann", *arguments, "-f", tmp_path / "key"], check=True
    )
    kind, data, _ = (tmp_path / "key.pub").read_text().split()
    assert read_site(f"sshKeys: ['{kind} {data}']", KNOWN).kept.ssh_keys == (f"{kind} {data}",)
    for end in range(0, len(data) - 1, 4):
        assert "this is not a public key" in fault(f"sshKeys: ['{kind} {data[:end]}']")
    assert "this is not a public key" in fault(f"sshKeys:\n- {kind} {data[:40]}\n  {data[40:]}")
    assert "this is not a public key" in fault(f"sshKeys: ['{kind} {data}AAAA']")


def test_a_certificate_and_a_key_that_sshd_refuses_are_no_keys() -> None:
    def line(*fields: bytes) -> str:
        data = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        return f"sshKeys: ['{fields[0].decode()} {base64.b64encode(data).decode()} ann']"

    assert read_site(line(b"sk-ssh-ed25519@openssh.com", b"x" * 32, b"ssh:"), KNOWN).faults == ()
    certificate = b"ssh-ed25519-cert-v01@openssh.com"
    for text in (
        line(certificate, b"x"),
        line(b"ssh-rsa", b"\1\0\1", b"\1" * 64),
        line(b"ssh-dss", b"x", b"y"),
    ):
        assert "this is not a public key" in fault(text)


def test_a_file_in_braces_behind_a_mark_is_read() -> None:
    assert read_site("--- {hostname: new}\n", KNOWN).kept.hostname == "new"
    assert read_site("--- # nothing\n", KNOWN) == read_site("", KNOWN)
    assert read_site(" lab: 8082 \n", KNOWN).faults
    assert read_site('endpoint: " lab:8082 "\n', Kept()).kept.endpoint == "lab:8082"


# Whatever is in it

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.sampled_from(["none", "dhcp", KEY, "1.2.3.4/8", "fe80::1%x y", "1.2.3.4/255.0.0.0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ssid", "country", "passphrase", "ip", "dns", "gateway"])
            | st.text()
            | st.integers()
            | st.floats()
            | st.dates(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)) | st.text(max_size=8), values, max_size=5))
def test_any_data_is_settings_or_faults_and_never_cuts_the_host_off(data: dict[str, Any]) -> None:
    reading = read_site(yaml.safe_dump(data, allow_unicode=True), KNOWN)
    assert all(len(str(one)) < 1000 for one in reading.faults)
    if reading.faults:
        assert reading.kept.wifi == KNOWN.wifi
        assert reading.kept.address == KNOWN.address
        assert set(reading.kept.ssh_keys) >= set(KNOWN.ssh_keys)
    assert reading.kept.ssh_keys
    files_of(reading.kept, hostname_of(reading.kept, ""))
    assert msgspec.json.decode(msgspec.json.encode(reading.kept), type=Kept) == reading.kept


@given(st.text(max_size=200))
def test_any_text_is_settings_or_faults(text: str) -> None:
    reading = read_site(text, KNOWN)
    if reading.faults:
        assert reading.kept == KNOWN
    secrets_to_remove(text, KNOWN)


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode("utf-16")))
def test_any_bytes_are_text_that_can_be_written_again_or_a_sentence(raw: bytes) -> None:
    try:
        site = SiteText.decoded(raw)
    except NotTextError:
        return
    assert site.encoded(site.text) == raw


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_editors_write_is_read(encoding: str, end: str) -> None:
    raw = f"# für uns{end}hostname: new{end}".encode(encoding)
    assert read_site(SiteText.decoded(raw).text, Kept()).kept.hostname == "new"


def test_bytes_that_are_not_text_are_said_with_their_place() -> None:
    with pytest.raises(NotTextError, match="save it with the encoding UTF-8") as found:
        SiteText.decoded("a: b\n# für".encode("latin-1"))
    assert found.value.place == (2, 4)
    with pytest.raises(NotTextError, match="UTF-8"):
        SiteText.decoded("hostname: a".encode("utf-16-le"))
    with pytest.raises(NotTextError, match="larger than 64 KiB"):
        SiteText.decoded(b"#" * (MAX_BYTES + 1))


# Secrets that are to go


def test_secrets_go_once_they_are_kept_or_used() -> None:
    text = "wifi: {country: DE, ssid: Lab, passphrase: a passphrase}\nendpoint: lab:1\npairingCode: host-aaaa bbbb\n"
    kept = read_site(text, Kept()).kept
    assert secrets_to_remove(text, Kept()) == []
    assert secrets_to_remove(text, kept) == [("wifi", "passphrase")]
    assert kept.is_to_enrol
    used = kept.with_used_code()
    assert secrets_to_remove(text, used) == [("wifi", "passphrase"), ("pairingCode",)]
    assert secrets_to_remove(text.replace("host-aaaa bbbb", "HOST-AAAA-BBBB"), used)[1:] == [("pairingCode",)]
    assert read_site(text, used).kept == used
    assert secrets_to_remove("wifi: {country: DE, ssid: Lab, passphrase: none}", kept) == []


def test_the_passphrase_of_another_network_is_not_the_one_that_is_kept() -> None:
    assert KNOWN.wifi is not None
    same = KNOWN.wifi.passphrase
    assert secrets_to_remove(f"wifi: {{passphrase: {same}}}\n", KNOWN) == [("wifi", "passphrase")]
    assert secrets_to_remove(f"wifi: {{ssid: Lab, passphrase: {same}}}\n", KNOWN) == [("wifi", "passphrase")]
    assert secrets_to_remove(f"wifi: {{ssid: Elsewhere, passphrase: {same}}}\n", KNOWN) == []
