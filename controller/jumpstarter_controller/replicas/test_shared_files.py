"""Replicas have the same keys, whoever comes first, and nobody's are lost."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
from jumpstarter_proto.private_files import write_private

from jumpstarter_controller.process.certificates import Certificate, replica_certificate
from jumpstarter_controller.replicas.shared_files import share_files
from jumpstarter_controller.store import StoreError


class Shared:
    """What all see."""

    NAME = "keys"

    def __init__(self) -> None:
        self.files: dict[str, bytes] | None = None
        self.first: dict[str, bytes] | None = None
        """What another makes in the moment before."""
        self.second: dict[str, bytes] | None = None
        """And what it adds."""

    def read(self) -> dict[str, bytes] | None:
        return None if self.files is None else dict(self.files)

    def make(self, files: Mapping[str, bytes]) -> bool:
        if self.first is not None:
            self.files = self.first
            return False
        self.files = dict(files)
        return True

    def add(self, files: Mapping[str, bytes]) -> bool:
        assert self.files is not None
        if self.second is not None:
            self.files |= self.second
            self.second = None
            return False
        self.files |= files
        return True


def files_of(folder: Path, word: bytes) -> dict[Path, Callable[[], object]]:
    folder.mkdir(exist_ok=True)
    return {
        path: lambda path=path: write_private(path, word + path.name.encode())  # type: ignore[misc]
        for path in (folder / "a.key", folder / "b.key")
    }


def test_the_first_makes_them_and_the_others_take_them(tmp_path: Path) -> None:
    shared = Shared()
    share_files(shared, files_of(tmp_path / "one", b"one "), ())
    share_files(shared, files_of(tmp_path / "two", b"two "), ())
    assert (tmp_path / "two/a.key").read_bytes() == b"one a.key"
    assert (tmp_path / "two/b.key").read_bytes() == b"one b.key"
    assert (tmp_path / "two/b.key").stat().st_mode & 0o777 == 0o600


def test_who_comes_second_in_the_same_moment_takes_the_firsts_and_keeps_its_own(tmp_path: Path) -> None:
    shared = Shared()
    shared.first = {"a.key": b"other a", "b.key": b"other b"}
    share_files(shared, files_of(tmp_path / "one", b"one "), ())
    assert (tmp_path / "one/a.key").read_bytes() == b"other a"
    assert (tmp_path / "one/a.key.own").read_bytes() == b"one a.key"


def test_what_somebody_has_taken_out_is_put_back_or_named(tmp_path: Path) -> None:
    shared = Shared()
    share_files(shared, files_of(tmp_path / "one", b"one "), ())
    shared.files = {"a.key": b""}
    share_files(shared, files_of(tmp_path / "one", b"one "), ())
    assert shared.files == {"a.key": b"one a.key", "b.key": b"one b.key"}
    shared.files = {}
    files = files_of(tmp_path / "two", b"two ")
    with pytest.raises(StoreError, match=r"a.key, b.key was removed from the Secret keys"):
        share_files(shared, files, files)
    assert not (tmp_path / "two/a.key").exists()


def test_who_adds_in_the_same_moment_as_another_takes_the_others(tmp_path: Path) -> None:
    shared = Shared()
    shared.files = {"a.key": b"old a"}
    shared.second = {"b.key": b"other b"}
    share_files(shared, files_of(tmp_path / "one", b"one "), ())
    assert shared.files == {"a.key": b"old a", "b.key": b"other b"}
    assert (tmp_path / "one/b.key").read_bytes() == b"other b"


@pytest.mark.parametrize("name", ["replicas.crt", "replicas.key"])
@pytest.mark.parametrize("has_own", [False, True])
def test_a_certificate_and_its_key_stay_together(tmp_path: Path, name: str, has_own: bool) -> None:
    def share(folder: Path) -> Certificate:
        folder.mkdir(exist_ok=True)
        pair = Certificate(folder / "replicas.crt", folder / "replicas.key", True)
        make = partial(replica_certificate, folder)
        share_files(shared, dict.fromkeys((pair.chain, pair.key), make), ())
        return pair

    shared = Shared()
    first = share(tmp_path / "one")
    assert shared.files is not None
    del shared.files[name]
    if has_own:
        (tmp_path / "two").mkdir()
        replica_certificate(tmp_path / "two")
    second = share(tmp_path / "two")
    for one in (second, share(tmp_path / "one")):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(one.chain, one.key)
        assert one.chain.read_bytes() == shared.files["replicas.crt"]
    assert first.chain.read_bytes() == second.chain.read_bytes()
    del shared.files[name]
    assert share(tmp_path / "one").chain.read_bytes() == second.chain.read_bytes(), (
        "who has both puts it back"
    )
