"""A certificate that is replaced while its server runs: from files, as certbot and cert-manager do it."""

from __future__ import annotations

import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from cryptography import x509

from jumpstarter_proto.rpc import ServerTls
from jumpstarter_proto.rpc._server_tls import LOOK_SECONDS

CA = trustme.CA()


class Files:
    """A pair of files, in which a new pair can be put, or half of one."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.replace()
        self.tls = ServerTls(self.chain, self.key)

    def replace(self, *, chain: bool = True, key: bool = True, begins: datetime | None = None) -> str:
        """The new certificate's serial number."""
        made = CA.issue_cert("localhost", not_before=begins)
        if chain:
            new = self.chain.with_suffix(".new")
            made.cert_chain_pems[0].write_to_path(new)
            new.rename(self.chain)
        if key:
            made.private_key_pem.write_to_path(self.key)
        self.half = made
        return serial(made.cert_chain_pems[0].bytes().decode())

    @property
    def shown(self) -> str:
        """The serial number of the certificate that a client sees."""
        theirs = ssl.create_default_context(cadata=CA.cert_pem.bytes().decode())
        ours_in, ours_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = theirs.wrap_bio(ours_in, ours_out, server_hostname="localhost")
        server = self.tls.context.wrap_bio(ours_out, ours_in, server_side=True)
        for side in (client, server, client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
        found = client.getpeercert()
        assert found
        return f"{int(str(found['serialNumber']), 16):040X}"  # which has no zeros at its begin


def serial(pem: str) -> str:
    return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:040X}"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_a_new_pair_is_shown_to_whoever_connects_then(files: Files) -> None:
    before = files.shown
    changes: list[int] = []
    files.tls.on_change = lambda: changes.append(1)
    await files.tls.look()
    assert files.shown == before
    wanted = files.replace()
    assert files.shown == before
    for _ in range(2):
        await files.tls.look()
    assert files.shown == wanted != before
    assert changes == [1]


async def test_it_is_noticed_without_a_word(
    files: Files, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    changed = trio.Event()
    files.tls.on_change = changed.set
    await nursery.start(files.tls.watch)
    wanted = files.replace()
    await changed.wait()
    assert files.shown == wanted
    assert trio.current_time() <= 100 * LOOK_SECONDS


@pytest.mark.parametrize("half", ["chain", "key"])
async def test_half_a_pair_changes_nothing_is_said_once_and_the_other_half_makes_it_whole(
    files: Files, half: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = files.shown
    wanted = files.replace(chain=half == "chain", key=half == "key")
    for _ in range(3):
        await files.tls.look()
    assert files.shown == before
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "the pair before is kept" in caplog.text
    assert files.tls.trouble == caplog.messages[0]
    files.half.cert_chain_pems[0].write_to_path(files.chain)
    files.half.private_key_pem.write_to_path(files.key)
    await files.tls.look()
    assert files.shown == wanted
    assert files.tls.trouble == ""


@pytest.mark.parametrize("damage", ["gone", "empty", "text", "folder"])
async def test_a_file_that_is_none_changes_nothing(
    files: Files, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = files.shown
    files.chain.unlink()
    if damage == "folder":
        files.chain.mkdir()
    elif damage != "gone":
        files.chain.write_text("" if damage == "empty" else "<html>")
    await files.tls.look()
    await files.tls.look()
    assert files.shown == before
    assert len(caplog.records) == 1
    await files.tls.look(always=True)
    assert len(caplog.records) == 2, "whoever asks for it hears why not"
    shutil.rmtree(files.chain, ignore_errors=True)
    wanted = files.replace()
    await files.tls.look()
    assert files.shown == wanted


async def test_one_that_begins_later_is_taken_when_it_does(
    files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, context = files.shown, files.tls.context
    files.replace(begins=datetime.now(UTC) + timedelta(hours=1))
    for _ in range(3):
        await files.tls.look()
    assert files.shown == before
    assert [record.getMessage() for record in caplog.records] == [
        f"{files.chain} is not valid yet, so the one before is kept until it is; check its begin and this host's clock"
    ]
    assert files.tls.trouble == caplog.messages[0]
    # Its time has come: nothing but the clock changes.
    monkeypatch.setattr("jumpstarter_proto.rpc._server_tls._NOT_YET_VALID", None)
    await files.tls.look()
    assert files.tls.context is not context
    assert files.tls.trouble == ""


async def test_one_that_begins_later_and_is_taken_away_again_is_no_trouble_any_more(files: Files) -> None:
    before = files.chain.rename(files.chain.with_name("chain")), files.key.rename(files.key.with_name("key"))
    files.replace(begins=datetime.now(UTC) + timedelta(hours=1))
    await files.tls.look()
    assert files.tls.trouble
    before[0].rename(files.chain)
    before[1].rename(files.key)
    await files.tls.look()
    assert files.tls.trouble == ""


async def test_a_server_that_starts_with_one_that_begins_later_says_so(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.replace(begins=datetime.now(UTC) + timedelta(days=1))
    ServerTls(files.chain, files.key)
    assert "is not valid yet, so clients refuse it" in caplog.text


async def test_whoever_asks_gets_it_read_though_it_looks_unchanged(files: Files) -> None:
    changes: list[int] = []
    files.tls.on_change = lambda: changes.append(1)
    await files.tls.look(always=True)
    assert changes == [1]
