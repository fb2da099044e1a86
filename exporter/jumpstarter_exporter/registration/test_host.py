"""A host that registers its boards: what the controller hears, and what becomes of its answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jwt
import pytest
import trio
import trio.testing
from jumpstarter_proto.lab.v1 import boards_grpc, enrolment_grpc, enrolment_pb2, lab_pb2
from jumpstarter_proto.lab.v1 import boards_pb2 as pb
from jumpstarter_proto.remote import REASON, Identity, Kind, ReasonCode
from jumpstarter_proto.rpc import (
    Caller,
    RpcError,
    ServerCall,
    Servicer,
    StatusCode,
    open_channel,
    serve_connection,
)
from jumpstarter_proto.tasks import collapsed
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.boards.claim import exclusive_claim
from jumpstarter_exporter.config import Enrolment, Identities, load, with_identity
from jumpstarter_exporter.config.host_labels import host_labels
from jumpstarter_exporter.config.model import Tls
from jumpstarter_exporter.devices.inventory import BoardDevices, Inventory
from jumpstarter_exporter.registration import host as module
from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.registration.controller import ControllerConnection
from jumpstarter_exporter.registration.host import (
    LOCKS,
    SETTLE_SECONDS,
    BoardRegistration,
    GoneBoards,
    KnownBoards,
    board_lock,
    registration_of,
)
from tests.support.lock_holder import holding

HOST = Enrolment("lab:8082", "lab", "pi4", "host-token", Tls(ca="QUJD"), Path("host.yaml"))
PENDING = replace(HOST, name="pi4-one", token="", host=HOST)
NOT_GRANTED = RpcError(StatusCode.PERMISSION_DENIED, "host pi4 may not set the label team; leave it out")
DENIED = RpcError(
    StatusCode.PERMISSION_DENIED,
    "permission denied for host lab/pi4",
    [(REASON, ReasonCode.CALLER_DENIED.value)],
)
DELETED = RpcError(StatusCode.UNKNOWN, 'host lab/pi4: hosts.jumpstarter.dev "pi4" not found; it was deleted')


class Boards(boards_grpc.BoardServiceServicer):
    """A controller that writes down what it hears, and fails as a test tells it to."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str]]] = []
        self.retired: list[str] = []
        self.failures: list[RpcError] = []
        self.news = trio.Event()
        self.is_known = True
        self.also: list[Servicer] = []
        """Other services that it has."""
        self.tokens: list[str] = []
        """Of the hosts that have called."""
        self.gone: set[str] = set()
        """Exporters of which the last word is that they are gone."""
        self.retiring = trio.Event()
        """It has been told that a board is gone."""
        self.may_retire = trio.Event()
        """It goes on with that."""
        self.may_retire.set()

    async def RegisterBoard(  # noqa: N802
        self, request: pb.RegisterBoardRequest, call: ServerCall[Any, Any]
    ) -> lab_pb2.Credential:
        self.heard.append((request.name, dict(request.labels)))
        self.news.set()
        if self.failures:
            raise self.failures.pop(0)
        self.gone.discard(request.name)
        token = f"token-{len(self.heard)}"
        return lab_pb2.Credential(kind="Exporter", namespace="lab", name=request.name, token=token)

    async def RetireBoard(  # noqa: N802
        self, request: pb.RetireBoardRequest, call: ServerCall[Any, Any]
    ) -> pb.RetireBoardResponse:
        if self.failures:
            raise self.failures.pop(0)
        self.retiring.set()
        await self.may_retire.wait()
        self.retired.append(request.name)
        self.gone.add(request.name)
        self.news.set()
        return pb.RetireBoardResponse()

    @asynccontextmanager
    async def opened(self, host: Enrolment) -> AsyncIterator[Caller]:
        if not self.also:
            assert host.token == HOST.token
        self.tokens.append(host.token)
        ours, theirs = trio.testing.memory_stream_pair()
        with collapsed():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve_connection, theirs, [self, *self.also] if self.is_known else [Lab()])
                async with open_channel(ours) as channel:
                    yield channel
                nursery.cancel_scope.cancel()


@pytest.fixture
def boards() -> Boards:
    return Boards()


@pytest.fixture
def identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identities:
    monkeypatch.setenv("JUMPSTARTER_STATE_DIRECTORY", str(tmp_path / "state"))
    return Identities()


def registration(boards: Boards, enrolment: Enrolment = PENDING, **labels: str) -> BoardRegistration:
    return BoardRegistration("one", None, lambda: labels, enrolment, open_host=boards.opened)


@contextmanager
def refused(sentence: str) -> Iterator[None]:
    with pytest.raises(RpcError, match=sentence):
        yield


async def until(holds: Callable[[], object]) -> None:
    """Files have no events."""
    with trio.fail_after(10):
        while not holds():
            await trio.sleep(0.01)


async def test_what_the_controller_makes_of_a_board_is_kept_and_found_by_its_file(
    boards: Boards, identities: Identities, tmp_path: Path
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("export: {power: {type: power.MockPower}}\n")
    assert with_identity(load(file)).enrolment is None
    identities.save_host(HOST)
    before = with_identity(load(file)).enrolment
    assert before is not None
    assert (before.name, before.token, before.host and before.host.name) == ("pi4-one", "", "pi4")
    one = BoardRegistration("one", file, lambda: {"board": "rpi4"}, before, open_host=boards.opened)
    identity, trust = await one.register()
    assert (identity.name, identity.token, trust.ca) == ("pi4-one", "token-1", "QUJD")
    assert boards.heard == [("pi4-one", {"board": "rpi4"})]
    after = with_identity(load(file)).enrolment
    assert after is not None
    assert (after.name, after.token, after.host and after.host.name) == ("pi4-one", "token-1", "pi4")
    assert "token-1" not in repr(after)
    # Of another host it is somebody else; an identity of its own counts before its host's.
    identities.save_host(replace(HOST, name="pi5"))
    assert (with_identity(load(file)).enrolment or after).name == "pi5-one"
    identities.save("one", replace(HOST, name="own", token="own"), file)
    assert with_identity(load(file)).enrolment == replace(
        HOST, name="own", token="own", file=identities.path("one")
    )


async def test_labels_that_change_are_told_once_when_they_have_settled(
    boards: Boards, identities: Identities
) -> None:
    labels = {"board": "a"}
    one = BoardRegistration("one", None, lambda: labels, PENDING, open_host=boards.opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.keep)
        await one.register()
        boards.news = trio.Event()
        boards.failures = [RpcError(StatusCode.UNAVAILABLE, "away")]
        began = trio.current_time()
        for value in "bcdef":
            labels["board"] = value
            one.look()
        while len(boards.heard) < 3:
            await boards.news.wait()
            boards.news = trio.Event()
        assert trio.current_time() - began >= SETTLE_SECONDS
        one.look()
        await trio.sleep(SETTLE_SECONDS * 1.5)
        nursery.cancel_scope.cancel()
    assert [told for _, told in boards.heard] == [{"board": "a"}, {"board": "f"}, {"board": "f"}]


async def test_a_label_that_is_refused_takes_no_board_away_that_is_there(
    boards: Boards, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    one = registration(boards, team="kernel")
    boards.failures = [NOT_GRANTED]
    with refused("may not set the label team"):
        await one.register()  # it is nobody yet
    known = registration(boards, replace(PENDING, token="kept"), team="kernel")
    boards.failures = [NOT_GRANTED]
    identity, _ = await known.register()
    assert (identity.token, known.problem) == ("kept", str(NOT_GRANTED))
    assert "were not changed" in caplog.text
    boards.failures = [NOT_GRANTED]
    with refused("may not set the label team"):
        await known.register()  # said once: who asks again with the same is refused
    identity, _ = await known.register()
    assert (identity.token, known.problem) == ("token-4", "")
    for error in (DELETED, DENIED):
        boards.failures = [error]
        with refused("admin pair host pi4 --renew"):  # that is no matter of labels
            await registration(boards, replace(PENDING, token="kept"), team="kernel").register()


async def test_a_controller_that_registers_no_boards_is_named_with_what_to_do(
    boards: Boards, identities: Identities
) -> None:
    boards.is_known = False
    with refused(
        "lab:8082 registers no boards by itself, and the board one has no token: make an exporter pi4-one"
    ):
        await registration(boards).register()


async def test_a_board_is_registered_by_its_host_as_it_is_now_and_by_no_other(
    boards: Boards, identities: Identities
) -> None:
    old = replace(PENDING, host=replace(HOST, token="old"))
    for other in (replace(HOST, name="pi5"), replace(HOST, endpoint="elsewhere:8082")):
        identities.save_host(other)
        with pytest.raises(AssertionError):  # that is the token of before
            await registration(boards, old).register()
    identities.save_host(HOST)
    identity, _ = await registration(boards, old).register()
    assert identity.token == "token-1"


class Content:
    """That of a board which was discovered."""

    host = "pi4"
    labels: Mapping[str, str] = MappingProxyType(
        {
            "jumpstarter.dev/host": "pi4",
            "jumpstarter.dev/board": "rpi4",
            "host": "pi4",
            "board": "rpi4",
            "rack": "3",
        }
    )

    def add_to(self, inventory: Inventory) -> BoardDevices:
        raise NotImplementedError


async def test_a_discovered_board_is_registered_without_the_labels_that_the_controller_gives_it(
    boards: Boards, identities: Identities, tmp_path: Path
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("export: {}\nmetadata: {labels: {board: mine}}\n")
    config = replace(load(file), enrolment=PENDING)
    found = registration_of(replace(config, discovered=Content()))
    found._open = boards.opened
    await found.register()
    kept = identities.find("one")
    assert kept is not None
    assert kept.config is None
    configured = registration_of(config)
    configured._open = boards.opened
    await configured.register()
    assert [labels for _, labels in boards.heard] == [
        {**host_labels(), "rack": "3"},
        {**host_labels(), "board": "mine"},
    ]
    kept = identities.find("one")
    assert kept is not None
    assert kept.config == file


def signed(days: float, *, of: float = 300.0) -> str:
    """A token that is good for so many days more, of so many."""
    now = time.time()
    end = now + days * 86400
    return jwt.encode({"sub": "pi4", "iat": int(end - of * 86400), "exp": int(end)}, "x" * 32)


class Tokens(enrolment_grpc.EnrolmentServiceServicer):
    """Makes a host another token."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None
        self.token: RpcError | str = ""

    async def RenewToken(  # noqa: N802
        self, request: enrolment_pb2.RenewTokenRequest, call: ServerCall[Any, Any]
    ) -> lab_pb2.Credential:
        self.meanwhile()
        if isinstance(self.token, RpcError):
            raise self.token
        return lab_pb2.Credential(token=self.token)


async def test_a_host_whose_token_is_about_to_end_gets_another_before_it_registers_a_board(
    boards: Boards, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens()
    boards.also = [tokens]

    async def register(token: str, renewal: RpcError | str) -> list[str]:
        """Whose tokens the controller has seen."""
        boards.tokens, tokens.token = [], renewal
        host = replace(HOST, token=token)
        identities.save_host(host)
        caplog.clear()
        await registration(boards, replace(PENDING, host=host)).register()
        return boards.tokens

    fresh, due = signed(200), signed(2)
    assert await register(fresh, "new") == [fresh]
    assert await register(due, "new") == [due, "new"]
    kept = identities.find_host()
    assert kept is not None
    assert kept.token == "new"
    tokens.meanwhile = lambda: identities.save_host(replace(HOST, token="enrolled again"))
    assert await register(due, "lost") == [due, "lost"]
    kept = identities.find_host()
    assert kept is not None
    assert kept.token == "enrolled again"
    tokens.meanwhile = lambda: None
    assert await register(due, RpcError(StatusCode.UNAVAILABLE, "away")) == [due, due]
    assert "the token of host pi4 expires in 48 h and could not be renewed (away); for a new" in caplog.text


def test_a_board_is_registered_anew_as_soon_as_its_token_or_its_hosts_is_due(boards: Boards) -> None:
    def due(board: str, host: str) -> float | None:
        one = registration(boards, replace(PENDING, host=replace(HOST, token=host)))
        found = one.seconds(Identity(Kind.EXPORTER, "lab", "pi4-one", board))
        return None if found is None else round(found / 86400)

    assert due(signed(100), signed(200)) == 70
    assert due(signed(200), signed(100)) == 70
    assert due(signed(100), "no end") == 70
    assert due("no end", signed(10)) == -20
    assert due("no end", "no end") is None


async def test_what_cannot_be_kept_is_asked_for_again_at_the_next_start(
    boards: Boards, identities: Identities, caplog: pytest.LogCaptureFixture
) -> None:
    identities.folder.parent.write_text("no folder")
    identity, _ = await registration(boards).register()
    assert identity.token == "token-1"
    assert "the identity of board one could not be stored" in caplog.text


async def test_boards_whose_files_are_gone_are_told_and_forgotten_and_no_others(
    boards: Boards, identities: Identities, tmp_path: Path
) -> None:
    identities.save_host(HOST)
    file, renamed = tmp_path / "there.yaml", tmp_path / "renamed.yaml"
    file.touch()
    renamed.touch()
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)  # nobody can look for that one
    for name, config, host in (
        ("there", file, HOST),
        ("gone", tmp_path / "gone.yaml", HOST),
        ("discovered", None, HOST),
        ("before", renamed, HOST),
        ("kept", tmp_path / "gone-for-a-moment.yaml", HOST),
        ("hidden", loop, HOST),
        ("own", tmp_path / "own.yaml", None),
        ("others", tmp_path / "others.yaml", replace(HOST, name="pi5")),
    ):
        identities.save(name, replace(PENDING, name=f"pi4-{name}", token="t", host=host), config)
    boards.failures = [RpcError(StatusCode.UNAVAILABLE, "away")]
    known = KnownBoards({"kept"}, {renamed}, is_complete=False)
    gone = GoneBoards(lambda: known, open_host=boards.opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gone.run)
        await until(lambda: len(identities.every()) == 6)
        assert sorted(boards.retired) == ["pi4-before", "pi4-gone"]
        file.unlink()
        gone.look()
        await until(lambda: identities.find("there") is None)
        known = replace(known, is_complete=True)
        gone.look()
        await until(lambda: identities.find("discovered") is None)
        nursery.cancel_scope.cancel()
    assert boards.retired[2:] == ["pi4-there", "pi4-discovered"]
    assert {one.stem for one in identities.every()} == {"kept", "own", "others", "hidden"}


async def test_a_gone_board_that_the_controller_refuses_or_a_damaged_one_keeps_no_other_from_being_told(
    boards: Boards, identities: Identities
) -> None:
    identities.save_host(HOST)
    for name in ("a", "b"):
        identities.save(name, replace(PENDING, name=f"pi4-{name}", token="t"), None)
    [*_, last] = identities.every()
    damaged = last.with_name(f"0{last.suffix}")
    damaged.write_text("no: identity")
    damaged.chmod(0o600)
    assert isinstance(identities.every()[damaged], ConfigError)
    boards.failures = [
        RpcError(StatusCode.PERMISSION_DENIED, "exporter pi4-a is a board without an owner, not host pi4's")
    ]
    gone = GoneBoards(lambda: KnownBoards((), (), is_complete=True), open_host=boards.opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gone.run)
        await until(lambda: identities.find("b") is None)
        assert boards.retired == ["pi4-b"]
        await until(lambda: identities.find("a") is None)  # it is tried again
        nursery.cancel_scope.cancel()


async def test_a_gone_board_that_is_back_before_the_controller_hears_of_it_stays(
    boards: Boards, identities: Identities
) -> None:
    identities.save_host(HOST)
    for name in ("a", "b", "c"):
        identities.save(name, replace(PENDING, name=f"pi4-{name}", token="t"), None)

    def known() -> KnownBoards:
        return KnownBoards(("b",) if boards.retired else (), (), is_complete=True)

    gone = GoneBoards(known, open_host=boards.opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gone.run)
        await until(lambda: identities.find("c") is None)
        nursery.cancel_scope.cancel()
    assert boards.retired == ["pi4-a", "pi4-c"]
    assert identities.find("b") is not None


async def test_a_board_that_is_back_while_the_controller_is_told_that_it_is_gone_is_registered_after_that(
    boards: Boards, identities: Identities
) -> None:
    identities.save_host(HOST)
    before = replace(PENDING, token="t")
    identities.save("one", before, None)
    boards.may_retire = trio.Event()
    there: set[str] = set()
    gone = GoneBoards(lambda: KnownBoards(there, (), is_complete=True), open_host=boards.opened)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gone.run)
            await boards.retiring.wait()
            there.add("one")
            async with trio.open_nursery() as coming:
                coming.start_soon(registration(boards, before).register)
                await until(lambda: board_lock(HOST, "pi4-one").statistics().tasks_waiting)
                boards.may_retire.set()
            nursery.cancel_scope.cancel()
    assert (boards.retired, [name for name, _ in boards.heard], boards.gone) == (
        ["pi4-one"],
        ["pi4-one"],
        set(),
    )
    kept = identities.find("one")
    assert kept is not None
    assert kept.enrolment.token == "token-1"


def lock_of(identities: Identities) -> Path:
    file = identities.folder.parent / LOCKS / "pi4-one"
    file.parent.mkdir(parents=True)
    return file


async def test_a_board_that_its_own_process_brings_back_is_not_said_to_be_gone(
    boards: Boards, identities: Identities, tmp_path: Path
) -> None:
    identities.save_host(HOST)
    file = tmp_path / "one.yaml"
    before = replace(PENDING, token="t")
    identities.save("one", before, file)
    gone = GoneBoards(lambda: KnownBoards((), (), is_complete=True), open_host=boards.opened)
    # That process is just registering it.
    with holding(lock_of(identities)) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gone.run)
            await until(lambda: board_lock(HOST, "pi4-one").locked())
            file.touch()
            other.kill()
            await until(lambda: not board_lock(HOST, "pi4-one").locked())
            nursery.cancel_scope.cancel()
    assert boards.retired == []
    assert identities.find("one") is not None


async def test_a_board_waits_until_another_process_has_said_that_it_is_gone(
    boards: Boards, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    is_locked = module._is_locked

    def look(descriptor: int) -> bool:
        nonlocal looked
        looked += 1
        return is_locked(descriptor)

    monkeypatch.setattr(module, "_is_locked", look)
    with holding(lock_of(identities)) as other:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(registration(boards).register)
                await until(lambda: looked > 3)
                assert boards.heard == []
                other.kill()
    assert [name for name, _ in boards.heard] == ["pi4-one"]


async def test_a_board_whose_file_is_gone_and_that_a_process_of_its_own_serves_still_is_not_gone(
    boards: Boards, identities: Identities, tmp_path: Path
) -> None:
    identities.save_host(HOST)
    for name in ("one", "two"):
        identities.save(name, replace(PENDING, name=f"pi4-{name}", token="t"), tmp_path / f"{name}.yaml")
    gone = GoneBoards(lambda: KnownBoards((), (), is_complete=True), open_host=boards.opened)
    async with exclusive_claim(tmp_path / "one.yaml"), trio.open_nursery() as nursery:
        nursery.start_soon(gone.run)
        await until(lambda: identities.find("two") is None)
        nursery.cancel_scope.cancel()
    assert boards.retired == ["pi4-two"]


async def test_who_could_not_say_that_boards_are_gone_tries_again_at_once_when_told_to_look(
    boards: Boards, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.registration.host.GONE_RETRY_SECONDS", (3600.0, 3600.0))
    identities.save_host(HOST)
    identities.save("a", replace(PENDING, name="pi4-a", token="t"), None)
    boards.failures = [DELETED]
    gone = GoneBoards(lambda: KnownBoards((), (), is_complete=True), open_host=boards.opened)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gone.run)
        await until(lambda: not boards.failures)
        gone.look()
        await until(lambda: identities.find("a") is None)
        nursery.cancel_scope.cancel()


async def test_a_token_that_does_not_count_any_more_is_asked_for_again_at_once(
    lab: Lab, boards: Boards, identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jumpstarter_exporter.registration.controller.STEADY_SECONDS", 0.0)
    one = registration(boards)
    controller = Wired(lab, token="", register=one.register)
    lab.says = [RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted or has a new token")]
    with refused("has not registered the board yet"):
        async with ControllerConnection.open(controller):
            pass

    async def introduce(_: object) -> None:
        if len(boards.heard) == 2:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.fail_after(2):
            await controller.follow(introduce, lambda _: None)
    assert len(boards.heard) == 2
