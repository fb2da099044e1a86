"""The nonce of a pairing code: the same for as long as the command may have to be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from jumpstarter_exporter.config import Identities
from jumpstarter_exporter.config.nonce import forget_nonce, pairing_nonce


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return Identities(tmp_path / "state" / "identities")


def test_a_code_has_one_nonce_however_it_is_typed_until_it_has_done_its_work(identities: Identities) -> None:
    first = pairing_nonce(identities, "HOST-AAAA-BBBB")
    assert len(first) == 32
    assert pairing_nonce(identities, "HOST-AAAA-BBBB") == first
    assert pairing_nonce(identities, " host aaaa bbbb\n") == first
    forget_nonce(identities)
    second = pairing_nonce(identities, "HOST-AAAA-BBBB")
    assert second != first
    forget_nonce(identities)
    forget_nonce(identities)


def test_another_code_has_another_nonce(identities: Identities) -> None:
    first = pairing_nonce(identities, "HOST-AAAA-BBBB")
    other = pairing_nonce(identities, "HOST-AAAA-CCCC")
    assert other != first
    assert pairing_nonce(identities, "HOST-AAAA-CCCC") == other


@pytest.mark.parametrize("text", ["", "[]", "{", '{"code": 1}', '{"nonce": "x"}'])
def test_one_that_is_damaged_or_was_seen_by_others_is_made_anew_and_kept(
    identities: Identities, text: str
) -> None:
    first = pairing_nonce(identities, "HOST-AAAA-BBBB")
    [file] = [path for path in identities.folder.parent.iterdir() if path.is_file()]
    assert file.stat().st_mode & 0o077 == 0
    assert "AAAA" not in file.read_text()
    file.write_text(text)
    second = pairing_nonce(identities, "HOST-AAAA-BBBB")
    assert second != first
    file.chmod(0o644)
    third = pairing_nonce(identities, "HOST-AAAA-BBBB")
    assert third != second
    assert pairing_nonce(identities, "HOST-AAAA-BBBB") == third
