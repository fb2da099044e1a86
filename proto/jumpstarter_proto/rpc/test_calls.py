from __future__ import annotations

import pytest
import trio
import trio.testing

from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.rpc import Options, RpcError, ServerCall, StatusCode, open_channel, serve_connection
from jumpstarter_proto.rpc.conftest import RAISE, SLEEP, STREAM, UNARY, Bytes, Connect, Echo


async def test_call_that_ends_leaves_nothing_open(connect: Connect) -> None:
    async with connect() as pair:
        for _ in range(3):
            assert (await pair.channel.unary(UNARY, Bytes(value=b"x"))).value == b"x"
        assert pair.channel._mux.calls == {}
        assert pair.channel._mux.connection._open == {}


async def test_message_beyond_the_window_arrives(connect: Connect) -> None:
    data = bytes(4_000_000)
    async with connect() as pair:
        assert (await pair.channel.unary(UNARY, Bytes(value=data))).value == data


@pytest.mark.parametrize("side", ["client", "server"])
async def test_oversized_message_fails_its_call_alone(connect: Connect, side: str) -> None:
    small = Options(max_receive=1000)
    async with connect(**{side: small}) as pair:
        with pytest.raises(RpcError, match="1000") as caught:
            await pair.channel.unary(UNARY, Bytes(value=bytes(2000)))
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        assert (await pair.channel.unary(UNARY, Bytes(value=b"still here"))).value == b"still here"


async def test_message_that_is_too_large_to_send_is_not_sent(connect: Connect) -> None:
    async with connect(client=Options(max_send=10)) as pair:
        with pytest.raises(RpcError, match="at most 10") as caught:
            await pair.channel.unary(UNARY, Bytes(value=bytes(11)))
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_beyond_the_peers_limit_is_not_sent(connect: Connect) -> None:
    async with connect(server=Options(max_header_list=1000)) as pair:
        await pair.channel.unary(UNARY, Bytes())  # by now the peer's settings are known
        with pytest.raises(RpcError) as caught:
            await pair.channel.unary(UNARY, Bytes(), metadata=[("key", "v" * 2000)])
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
        await pair.channel.unary(UNARY, Bytes())


class RefusalError(JumpstarterError):
    status = "FAILED_PRECONDITION"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RpcError(StatusCode.ABORTED, "text"), StatusCode.ABORTED),
        (RefusalError("text"), StatusCode.FAILED_PRECONDITION),
        (NotImplementedError("text"), StatusCode.UNIMPLEMENTED),
        (ValueError("text"), StatusCode.INVALID_ARGUMENT),
        (TimeoutError("text"), StatusCode.DEADLINE_EXCEEDED),
        (ConnectionError("text"), StatusCode.UNAVAILABLE),
        (OSError("text"), StatusCode.INTERNAL),
        (RuntimeError("text"), StatusCode.UNKNOWN),
        (ExceptionGroup("group", [ValueError("text")]), StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_exception_becomes_a_status_by_its_class(
    connect: Connect, error: Exception, code: StatusCode
) -> None:
    async with connect() as pair:
        pair.echo.error = error
        with pytest.raises(RpcError) as caught:
            await pair.channel.unary(RAISE, Bytes())
        assert (caught.value.code, caught.value.details) == (code, "text")
        await pair.channel.unary(UNARY, Bytes())


async def test_unexpected_exception_is_logged_with_its_traceback(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect() as pair:
        pair.echo.error = RuntimeError("a bug")
        with pytest.raises(RpcError):
            await pair.channel.unary(RAISE, Bytes())
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None


async def test_deadline_of_the_caller_ends_the_call_on_both_sides(
    connect: Connect, autojump_clock: trio.testing.MockClock
) -> None:
    async with connect() as pair:
        with pytest.raises(RpcError, match=r"Sleep was not done within 5 s; .* try again") as caught:
            await pair.channel.unary(SLEEP, Bytes(), timeout=5)
        assert caught.value.code is StatusCode.DEADLINE_EXCEEDED
        await pair.echo.cancelled.wait()
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_deadline_is_enforced_by_the_server_alone(autojump_clock: trio.testing.MockClock) -> None:
    """A caller that sends grpc-timeout and then waits without a limit of its own."""
    ours, theirs = trio.testing.memory_stream_pair()
    echo = Echo()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_connection, theirs, [echo])
        async with open_channel(ours) as channel:
            mux = channel._mux
            async with channel.stream(STREAM):
                pass
            stream_id = mux.connection.start_call(
                SLEEP.path, scheme="http", authority="x", timeout=3.0, metadata=()
            )
            mux.connection.send_data(stream_id, b"\0\0\0\0\0", end=True)
            mux.flush()
            await echo.cancelled.wait()
            assert trio.current_time() == pytest.approx(3, abs=0.1)
        nursery.cancel_scope.cancel()


async def test_leaving_a_call_cancels_its_handler(connect: Connect) -> None:
    async with connect() as pair:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.channel.unary, SLEEP, Bytes())
                await pair.echo.started.wait()
                scope.cancel()
        await pair.echo.cancelled.wait()
        await pair.channel.unary(UNARY, Bytes())


async def test_cancelled_writer_leaves_the_connection_usable(connect: Connect) -> None:
    async with connect() as pair:
        async with pair.channel.stream(STREAM) as call:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def send() -> None:
                        while True:
                            await call.send(Bytes(value=bytes(3_000_000)))

                    nursery.start_soon(send)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
        assert (await pair.channel.unary(UNARY, Bytes(value=b"fine"))).value == b"fine"


async def test_interceptor_refuses_every_kind_before_a_message_is_read(connect: Connect) -> None:
    async def refuse(call: ServerCall[Bytes, Bytes]) -> None:
        call.abort(StatusCode.UNAUTHENTICATED, f"no {call.header('token')}")

    async with connect(interceptors=(refuse,)) as pair:
        with pytest.raises(RpcError, match="no ticket") as caught:
            await pair.channel.unary(UNARY, Bytes(), metadata=[("token", "ticket")])
        assert caught.value.code is StatusCode.UNAUTHENTICATED
        async with pair.channel.stream(STREAM) as call:
            with pytest.raises(RpcError, match="no None"):
                await call.receive()


async def test_empty_metadata_values_and_underscores_survive(connect: Connect) -> None:
    seen: list[tuple[str | None, str | None]] = []

    async def look(call: ServerCall[Bytes, Bytes]) -> None:
        seen.append((call.header("x_jmp_accept_encoding"), call.header("absent")))

    async with connect(interceptors=(look,)) as pair:
        await pair.channel.unary(UNARY, Bytes(), metadata=[("x_jmp_accept_encoding", "")])
    assert seen == [("", None)]


async def test_a_thousand_calls_at_a_time(connect: Connect) -> None:
    async with connect() as pair:
        at_once = trio.Event()
        waiting = 0

        async def one(number: int) -> None:
            nonlocal waiting
            async with pair.channel.stream(STREAM) as call:
                await call.send(Bytes(value=b"%d" % number))
                assert (await call.receive()).value == b"%d" % number
                waiting += 1
                if waiting == 1000:
                    at_once.set()
                await at_once.wait()
                await call.send_eof()
                with pytest.raises(trio.EndOfChannel):
                    await call.receive()

        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one, number)


async def test_more_calls_than_the_peer_takes_wait_for_their_turn(connect: Connect) -> None:
    async with connect(server=Options(max_streams=2)) as pair:
        await pair.channel.unary(UNARY, Bytes())
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(pair.channel.unary, UNARY, Bytes(value=b"x"))
