"""The passphrase of an exporter on the network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from google.protobuf import empty_pb2
from jumpstarter_proto.remote import ReasonCode, reason_of
from jumpstarter_proto.rpc import LimitedLog, RpcError, StatusCode
from jumpstarter_proto.v1 import jumpstarter_pb2

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.conftest import Serve, User
from jumpstarter_exporter.serve.passphrase import PassphraseError, read_passphrase, require_passphrase


async def unary(user: User, metadata: Any) -> None:
    await user.exporter.GetReport(empty_pb2.Empty(), metadata=metadata)


async def server_stream(user: User, metadata: Any) -> None:
    async with user.exporter.LogStream(empty_pb2.Empty(), metadata=metadata) as call:
        await call.initial_metadata()


async def both_ways(user: User, metadata: Any) -> None:
    async with user.router.Stream(metadata=metadata) as call:
        await call.receive()


@pytest.mark.parametrize("call", [unary, server_stream, both_ways])
@pytest.mark.parametrize("given", [None, "", "open sesam", "open sesame!"])
async def test_without_it_every_kind_of_call_is_refused(serve: Serve, call: Any, given: str | None) -> None:
    metadata = [] if given is None else [("x-jumpstarter-passphrase", given)]
    async with serve(Composite(), interceptors=[require_passphrase("open sesame")]) as user:
        with pytest.raises(RpcError) as caught:
            await call(user, metadata)
    assert (caught.value.code, caught.value.details) == (
        StatusCode.UNAUTHENTICATED,
        "invalid or missing passphrase",
    )
    assert reason_of(caught.value) == ReasonCode.BAD_PASSPHRASE


async def test_with_it_calls_pass(serve: Serve) -> None:
    metadata = [("x-jumpstarter-passphrase", "open sesame")]
    async with serve(Composite(), interceptors=[require_passphrase("open sesame")]) as user:
        await user.exporter.GetStatus(jumpstarter_pb2.GetStatusRequest(), metadata=metadata)
        await server_stream(user, metadata)


async def test_guesses_are_counted_and_then_the_right_one_is_not_an_answer_either(
    serve: Serve, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    begun = time.monotonic()
    async with serve(Composite(), interceptors=[require_passphrase("open sesame")]) as user:
        for number in range(30):
            with pytest.raises(RpcError) as caught:
                await unary(user, [("x-jumpstarter-passphrase", f"guess {number}")])
            assert (caught.value.code is StatusCode.UNAUTHENTICATED) == (number < 10)
        right = [("x-jumpstarter-passphrase", "open sesame")]
        with pytest.raises(RpcError, match="too many wrong passphrases; try again in 60 s") as caught:
            await unary(user, right)
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        allowed = LimitedLog.BURST + (time.monotonic() - begun) * LimitedLog.PER_MINUTE / 60
        assert 0 < len(caplog.records) <= allowed
        await trio.sleep(60)
        await unary(user, right)
        for _ in range(15):
            with pytest.raises(RpcError):
                await unary(user, [("x-jumpstarter-passphrase", "guess")])
        await unary(user, right)  # it was right on this connection before


async def test_calls_without_one_are_no_guesses(serve: Serve) -> None:
    check = require_passphrase("open sesame")
    async with serve(Composite(), interceptors=[check]) as user:
        for _ in range(15):
            with pytest.raises(RpcError, match="invalid or missing"):
                await unary(user, [])
    async with serve(Composite(), interceptors=[check]) as user:
        await unary(user, [("x-jumpstarter-passphrase", "open sesame")])


async def test_the_right_one_costs_nothing_however_often(serve: Serve) -> None:
    check = require_passphrase("open sesame")
    for _ in range(30):
        async with serve(Composite(), interceptors=[check]) as user:
            await unary(user, [("x-jumpstarter-passphrase", "open sesame")])


def test_it_is_a_files_first_line_or_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JMP_GRPC_PASSPHRASE", raising=False)
    assert read_passphrase(None) is None
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "from outside")
    assert read_passphrase(None) == "from outside"
    file = tmp_path / "secret"
    file.write_bytes(b"open sesame\r\nsecond line\n")
    assert read_passphrase(file) == "open sesame"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" x", b"x ", b"x\x7f", "pässword".encode(), b"\xff", b"a\tb"]
)
def test_what_is_not_a_passphrase(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(PassphraseError, match=str(file)):
        read_passphrase(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PassphraseError, match="cannot be read: No such file"):
        read_passphrase(tmp_path / "none")
