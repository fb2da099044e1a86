"""A router's file: what it has to hold, and what is said of one that does not."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from jumpstarter_proto.private_files import PrivateFileError, write_private

from jumpstarter_controller.identity.keys import ROUTER_KEY_BYTES
from jumpstarter_controller.router.credentials import BEGIN, END, load

KEY = bytes(range(ROUTER_KEY_BYTES))
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"


def pem(key: bytes) -> bytes:
    return BEGIN + base64.encodebytes(key) + END


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "router.pem"
    write_private(path, data)
    return path


@pytest.mark.parametrize(
    ("data", "has_certificate"), [(KEY, False), (pem(KEY), False), (pem(KEY) + CERTIFICATE, True)]
)
def test_a_key_alone_or_with_a_certificate(tmp_path: Path, data: bytes, has_certificate: bool) -> None:
    file = load(written(tmp_path, data))
    assert file.key == KEY
    assert (file.certificate is not None) is has_certificate


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (KEY[1:], "is not the file of a router"),
        (CERTIFICATE * 3, "is not the file of a router"),
        (pem(KEY[1:]), "is damaged"),
        (BEGIN + b"????" * 20 + b"\n" + END, "is damaged"),
        (pem(KEY).removesuffix(END), "is damaged"),
        (b"", "is not the file of a router"),
    ],
)
def test_what_holds_no_key_or_a_short_one_says_what_to_do(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(PrivateFileError, match=sentence) as caught:
        load(written(tmp_path, data))
    assert "create" in str(caught.value)
