"""A certificate near its end: what is said, and that whoever pinned the old one believes the new one."""

from __future__ import annotations

import base64
import ssl
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest
import trio
import trio.testing
import trustme
from jumpstarter_proto.remote import Trust
from jumpstarter_proto.rpc import ServerTls, server_ssl_context

from jumpstarter_controller.process.certificate_expiry import LOOK_SECONDS, CertificateExpiry, expiry_warning
from jumpstarter_controller.process.certificates import Certificate, issue, own_certificate

DAY = 86400.0


async def believes(pinned: str, server: ssl.SSLContext) -> bool:
    """Whether a client that pinned that PEM connects to that server."""
    ca = base64.b64encode(pinned.encode()).decode()
    context = await Trust(ca=ca).context("localhost", 1, timeout=1)
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(ours, theirs, server_hostname="localhost")
    far = server.wrap_bio(theirs, ours, server_side=True)
    for side in (client, far, client, far):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


def serving(own: Certificate) -> ssl.SSLContext:
    return server_ssl_context(own.chain, own.key)


@pytest.mark.parametrize("days", [10, -0.5], ids=["near its end", "has ended"])
async def test_who_pinned_a_certificate_goes_on_when_it_is_renewed_again_and_again(
    tmp_path: Path, days: float
) -> None:
    own = own_certificate(tmp_path, ["lab"], days)
    pins = [own.pinned()]
    router = tmp_path / "router.pem"
    router.write_bytes(issue(tmp_path, "localhost"))
    for _ in range(2):
        end = CertificateExpiry(own)
        assert end.renew_in_time() == (len(pins) == 1)
        pins.append(own.pinned())
    assert own.covers("lab")
    assert own.ends() > time.time() + 3000 * DAY
    (tmp_path / "later").mkdir()
    later = tmp_path / "later" / "router.pem"
    later.write_bytes(issue(tmp_path, "localhost"))
    stranger = own_certificate(tmp_path / "later", [])
    for pinned in pins:
        for server in (serving(own), server_ssl_context(router, router), server_ssl_context(later, later)):
            assert await believes(pinned, server)
        assert not await believes(pinned, serving(stranger))


async def test_one_that_was_made_by_a_clock_that_was_ahead_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=700)

    with monkeypatch.context() as ahead:
        ahead.setattr("jumpstarter_controller.process.certificates.datetime.datetime", Ahead)
        own = own_certificate(tmp_path, ["lab"])
    assert own.begins() > time.time() + 600 * DAY
    assert CertificateExpiry(own).renew_in_time()
    assert own.begins() < time.time()
    assert await believes(own.pinned(), serving(own))
    assert own.before is not None
    assert not own.before.chain.exists()
    assert not CertificateExpiry(own).renew_in_time()


async def test_the_end_of_others_certificates_counts_as_ever(tmp_path: Path) -> None:
    authority = trustme.CA()
    file = tmp_path / "ended.pem"
    ended = authority.issue_cert("localhost", not_after=datetime.fromtimestamp(time.time() - DAY, UTC))
    ended.private_key_and_cert_chain_pem.write_to_path(file)
    assert not await believes(authority.cert_pem.bytes().decode(), server_ssl_context(file, file))
    leaf = ended.cert_chain_pems[0].bytes().decode()
    assert not await believes(leaf, server_ssl_context(file, file)), "nor for one that is no authority"


@pytest.mark.parametrize(
    ("left", "sentence"),
    [(31 * DAY, ""), (29 * DAY, "ends in 29 days; replace it"), (-2 * DAY, "ended 2 days ago")],
)
def test_it_is_said_a_month_before(left: float, sentence: str) -> None:
    found = expiry_warning(1e9 + left, 1e9)
    assert sentence in found
    assert bool(found) == bool(sentence)


async def test_it_is_renewed_while_it_is_served_and_said_once_a_day(
    tmp_path: Path,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    own = own_certificate(tmp_path, [], 10)
    before = own.pinned()
    tls = ServerTls(own.chain, own.key)
    changed = trio.Event()
    tls.on_change = changed.set
    end = CertificateExpiry(own)
    assert "ends in 10 days" in end.warning()
    await nursery.start(end.watch, tls)
    await changed.wait()
    assert await believes(before, tls.context)
    assert own.ends() > time.time() + 3000 * DAY

    def said_so_far() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    while len(said_so_far()) < 2:  # by a thread, for which this clock does not wait
        await trio.sleep(LOOK_SECONDS)
    await trio.sleep(10 * LOOK_SECONDS)
    said = said_so_far()
    assert len(said) == 2, said
    assert "renewed under the same key" in said[0]
    assert "Jumpstarter's own that were configured before need a new configuration" in said[1]


def test_a_certificate_that_cannot_be_renewed_says_why(tmp_path: Path) -> None:
    own = own_certificate(tmp_path, [], 10)
    own.key.write_text("no key")
    end = CertificateExpiry(own)
    assert not end.renew_in_time()
    assert "it cannot be renewed" in end.warning()
    assert "not a private key" in end.warning()
