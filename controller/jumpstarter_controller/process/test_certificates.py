"""The certificates that are made here: for whom they are, and who vouches for whom."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from cryptography import x509

from jumpstarter_controller.process.certificates import (
    DAYS,
    Certificate,
    issue,
    own_certificate,
    renew,
    replica_certificate,
)

OWN = ["localhost", socket.gethostname(), "127.0.0.1", "::1"]


def test_one_is_made_once_for_the_hosts_that_it_is_reached_at(tmp_path: Path) -> None:
    made = own_certificate(tmp_path, ["lab.example", "192.0.2.1"])
    assert sorted(made.hosts()) == sorted({"lab.example", "192.0.2.1", *OWN})
    before = made.chain.read_bytes()
    assert own_certificate(tmp_path, ["another"]).chain.read_bytes() == before
    assert abs(made.ends() - time.time() - DAYS * 86400) < 3600
    assert abs(time.time() - made.begins() - 86400) < 3600
    assert {file.stat().st_mode & 0o777 for file in (made.chain, made.key)} == {0o600}
    assert made.pinned().encode() == before, "users pin it, as nobody else vouches for it"
    assert Certificate(made.chain, made.key, False).pinned() == ""


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [
        ("lab.example", True),
        ("LAB.example", True),
        ("x.lab.example", False),
        ("a.site.example", True),
        ("site.example", False),
        ("a.b.site.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:0::1", True),
        ("example", False),
    ],
)
def test_for_which_hosts_it_is(tmp_path: Path, host: str, is_covered: bool) -> None:
    made = own_certificate(tmp_path, ["Lab.example", "*.Site.example", "192.0.2.1", "2001:db8::1"])
    assert made.covers(host) is is_covered


def test_a_router_gets_one_that_the_labs_own_vouches_for_and_that_vouches_for_nobody(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, [])
    file = tmp_path / "router.pem"
    file.write_bytes(issue(tmp_path, "router.example"))
    issued = Certificate(file, file, False)
    assert issued.hosts() == ["router.example"]
    first = issued.first()
    first.verify_directly_issued_by(own.first())
    may_sign = [
        one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca for one in (own.first(), first)
    ]
    assert may_sign == [True, False]
    assert own_certificate(tmp_path, []).first() == own.first()


def test_a_new_one_is_for_the_same_hosts_and_the_same_key_and_the_old_one_is_kept(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, ["lab.example"])
    old, hosts = own.first(), own.hosts()
    renew(own)
    assert own.hosts() == hosts
    assert own.first().public_key() == old.public_key()
    own.first().verify_directly_issued_by(old)
    assert own.before is not None
    assert own.before.first() == old
    assert own.authority().subject == old.subject
    assert own.authority() != old


def test_controllers_of_a_lab_know_each_other_by_one_of_its_own(tmp_path: Path) -> None:
    replicas, own = replica_certificate(tmp_path), own_certificate(tmp_path, [])
    assert replicas.hosts() == ["localhost"]
    assert replicas.first().public_key() != own.first().public_key()
    assert replica_certificate(tmp_path).fingerprint() == replicas.fingerprint() != own.fingerprint()
