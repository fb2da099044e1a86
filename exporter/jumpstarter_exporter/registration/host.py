"""An enrolled host registers its boards: each becomes an exporter with a token that no person sees.

A failure of one board does not affect the others. What the controller returned for a board is stored in the state
directory, so that a token is available while the controller is away; registering again creates nothing new.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

import trio
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.lab.v1 import boards_pb2, enrolment_pb2
from jumpstarter_proto.lab.v1.boards_grpc import BoardServiceStub
from jumpstarter_proto.lab.v1.enrolment_grpc import EnrolmentServiceStub
from jumpstarter_proto.notifications import AutoResetEvent
from jumpstarter_proto.private_files import PrivateFileError
from jumpstarter_proto.remote import (
    Backoff,
    Identity,
    Kind,
    ReasonCode,
    Trust,
    means,
    open_controller,
    read_claims,
)
from jumpstarter_proto.rpc import Caller, RpcError, StatusCode
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.config.identities import Identities, StoredIdentity
from jumpstarter_exporter.config.model import Enrolment, ExporterConfig, Tls
from jumpstarter_exporter.registration.controller import RegistrationCalls

__all__ = [
    "BoardRegistration",
    "GoneBoards",
    "KnownBoards",
    "board_lock",
    "identity_of",
    "missing_token",
    "open_as_host",
    "registration_of",
]

CALL_SECONDS = 10.0
SETTLE_SECONDS = 0.5
"""Changed labels are reported after this time if they have not been changed back."""
REGISTER_RETRY_SECONDS = 0.5, 30.0
"""The first and the longest pause between two attempts to register the boards."""
GONE_RETRY_SECONDS = 0.5, 60.0
"""The first and the longest pause before gone boards are reported again."""
LOCKS = "registering"
"""A folder of empty lock files in the state directory."""
LOCK_LOOK_SECONDS = 0.05
_BY_RULE = frozenset(("host", "board", "jumpstarter.dev/host", "jumpstarter.dev/board"))
"""Labels that a controller sets by itself if the host may have them."""
_NOT_ITS_OWN = frozenset((StatusCode.PERMISSION_DENIED, StatusCode.INVALID_ARGUMENT))

_log = logging.getLogger(__name__)

_locks: WeakValueDictionary[tuple[str, str, str], trio.Lock] = WeakValueDictionary()
Open = Callable[[Enrolment], AbstractAsyncContextManager[Caller]]


def missing_token(board: str, exporter: str, endpoint: str) -> str:
    """What to do if the controller does not register boards for a host, such as Jumpstarter's own."""
    return (
        f"the controller at {endpoint} registers no boards by itself, and the board {shown(board)} has no token: make "
        f"an exporter {shown(exporter)} there, and put `endpoint` and `token` of its configuration into the board's"
    )


@asynccontextmanager
async def open_as_host(host: Enrolment) -> AsyncIterator[Caller]:
    """A connection with the host's identity. RpcError if it fails."""
    identity = Identity(Kind.HOST, host.namespace, host.name, host.token)
    async with open_controller(
        host.endpoint, Trust(ca=host.tls.ca, insecure=host.tls.insecure), identity
    ) as channel:
        yield channel


def board_lock(host: Enrolment, exporter: str) -> trio.Lock:
    """A lock to hold while a board is registered or retired and the result is stored.

    A board that returns while it is being retired is registered afterwards.
    """
    key = (host.endpoint, host.namespace, exporter)
    lock = _locks.get(key)
    if lock is None:
        lock = _locks[key] = trio.Lock()
    return lock


@asynccontextmanager
async def _alone(host: Enrolment, exporter: str, identities: Identities) -> AsyncIterator[None]:
    """The same lock between processes of this host: a board's own process, and the one that retires boards.

    If the lock file cannot be created, no process waits.
    """
    async with board_lock(host, exporter):
        place = identities.folder.parent / LOCKS / safe_name(exporter)
        descriptor = await trio.to_thread.run_sync(_opened, place)
        try:
            # The kernel sends no event when another process releases a lock. It is held for one call at most.
            while descriptor is not None and not _is_locked(descriptor):  # noqa: ASYNC110
                await trio.sleep(LOCK_LOOK_SECONDS)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _opened(path: Path) -> int | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        _log.debug("%s cannot be locked: %s", path, error.strerror)
        return None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


class BoardRegistration:
    """One board of an enrolled host."""

    def __init__(
        self,
        board: str,
        config: Path | None,
        labels: Callable[[], Mapping[str, str]],
        enrolment: Enrolment,
        *,
        identities: Identities | None = None,
        open_host: Open = open_as_host,
    ) -> None:
        """`enrolment` is the board's identity as far as it is known; `config` is its file, if it has one.

        `labels` returns the labels that it should have now, besides those that the controller sets.
        """
        assert enrolment.host is not None
        self.problem = ""
        """Why the board does not have the labels that it should have; empty if it does."""
        self._board = board
        self._config = config
        self._labels = labels
        self._told: dict[str, str] | None = None
        self._changed = trio.Event()
        self._host = enrolment.host
        self._enrolment = enrolment
        self._identities = identities or Identities()
        self._open = open_host

    def look(self) -> None:
        """The labels may have changed: `keep` reports them when they have settled."""
        self._changed.set()

    async def register(self) -> tuple[Identity, Trust]:
        """The identity of the board's exporter, as the controller returns it now.

        A board that has a token keeps it if its labels are rejected; `problem` says so.

        Raises:
            RpcError: the controller is away, or rejects the host or this board; the message says what to do.
            ConfigError: the host's identity has become invalid.
        """
        async with _alone(self._host, self._enrolment.name, self._identities):
            return await self._register()

    async def _register(self) -> tuple[Identity, Trust]:
        await trio.to_thread.run_sync(self._reread)
        await self._renew_host()
        labels = self._wanted
        try:
            async with self._open(self._host) as channel:
                request = boards_pb2.RegisterBoardRequest(name=self._enrolment.name, labels=labels)
                credential = await BoardServiceStub(channel).RegisterBoard(request, timeout=CALL_SECONDS)
        except RpcError as error:
            raised = self._explained(error)
            is_about_board = raised is error and error.code in _NOT_ITS_OWN
            if not is_about_board or not self._enrolment.token or self._told == labels:
                raise raised from None
            # The board's registration stays valid; only this change of labels was rejected.
            self._told, self.problem = labels, str(raised)
            _log.error("the labels of board %s were not changed: %s", self._board, raised)
            return identity_of(self._enrolment)
        self._told, self.problem = labels, ""
        self._enrolment = replace(
            self._enrolment,
            endpoint=self._host.endpoint,
            namespace=credential.namespace,
            token=credential.token,
            tls=Tls(self._host.tls.ca, self._host.tls.insecure),
            host=self._host,
        )
        await self._save()
        return identity_of(self._enrolment)

    async def keep(self) -> None:
        """Report changed labels, until cancelled."""
        while True:
            await self._changed.wait()
            await trio.sleep(SETTLE_SECONDS)
            self._changed = trio.Event()
            backoff = Backoff(*REGISTER_RETRY_SECONDS)
            while self._told not in (
                None,
                self._wanted,
            ):  # without a registration, the first one includes the labels
                try:
                    await self.register()
                except JumpstarterError as error:
                    _log.info("the labels of board %s could not be reported yet: %s", self._board, error)
                    await trio.sleep(backoff.next())

    @property
    def _wanted(self) -> dict[str, str]:
        return dict(self._labels())

    def _reread(self) -> None:
        """The host may have a new token."""
        host = self._identities.find_host()
        if host is not None and (host.endpoint, host.name) == (self._host.endpoint, self._host.name):
            self._host = host

    async def _renew_host(self) -> None:
        """Renew the host's token if it expires soon."""
        claims = read_claims(self._host.token)
        if claims.left is None or (claims.renewal_seconds or 1.0) > 0:
            return
        try:
            async with self._open(self._host) as channel:
                request = enrolment_pb2.RenewTokenRequest()
                credential = await EnrolmentServiceStub(channel).RenewToken(request, timeout=CALL_SECONDS)
            before, renewed = self._host, replace(self._host, token=credential.token)
            await trio.to_thread.run_sync(self._keep_host, before, renewed)
        except (RpcError, PrivateFileError) as error:
            _log.warning(
                "the token of host %s expires in %.0f h and could not be renewed (%s); %s",
                self._host.name,
                claims.left / 3600,
                error,
                _renewal(self._host),
            )
        else:
            self._host = renewed
            _log.info("the token of host %s was renewed", renewed.name)

    def _keep_host(self, before: Enrolment, renewed: Enrolment) -> None:
        current = self._identities.find_host()
        if (
            current is not None and current.token == before.token
        ):  # otherwise the host was enrolled again meanwhile
            self._identities.save_host(renewed)

    def seconds(self, identity: Identity) -> float | None:
        """Seconds until the board or its host needs a new token; see `Renewal`."""
        found = (read_claims(token).renewal_seconds for token in (identity.token, self._host.token))
        return min((one for one in found if one is not None), default=None)

    async def renew(
        self, calls: RegistrationCalls, identity: Identity, trust: Trust
    ) -> tuple[Identity, Trust]:
        """Renew both: registering the board again returns a new token."""
        return await self.register()

    async def _save(self) -> None:
        try:
            await trio.to_thread.run_sync(self._identities.save, self._board, self._enrolment, self._config)
        except PrivateFileError as error:  # the next start requests it again
            _log.warning("the identity of board %s could not be stored: %s", self._board, error)

    def _explained(self, error: RpcError) -> RpcError:
        if error.code is StatusCode.UNIMPLEMENTED:
            return RpcError(error.code, missing_token(self._board, self._enrolment.name, self._host.endpoint))
        if error.code is StatusCode.UNAUTHENTICATED or means(
            error,
            ReasonCode.CALLER_GONE,
            ReasonCode.CALLER_DENIED,
            ReasonCode.BAD_TOKEN,
            ReasonCode.TOKEN_UNFIT,
            ReasonCode.TOKEN_EXPIRED,
        ):
            return RpcError(error.code, f"{error.details}; {_renewal(self._host)}")
        return error


def registration_of(config: ExporterConfig) -> BoardRegistration:
    """The registration of a board, from its file or discovered."""
    assert config.enrolment is not None
    if config.discovered is None:
        return BoardRegistration(config.board_name, config.file, lambda: config.labels, config.enrolment)

    def labels() -> Mapping[str, str]:
        return {key: value for key, value in config.labels.items() if key not in _BY_RULE}

    return BoardRegistration(config.board_name, None, labels, config.enrolment)


@dataclass(frozen=True)
class KnownBoards:
    """The boards of a host."""

    boards: Collection[str]
    files: Collection[Path]
    """The files of boards that have one."""
    is_complete: bool
    """Whether discovered boards are included; otherwise it is unknown which of them are gone."""


class GoneBoards:
    """Retires boards that are gone for good, and removes their stored identities.

    Gone are boards whose file was removed or now names another board, and discovered boards without any device.
    """

    def __init__(
        self,
        known: Callable[[], KnownBoards],
        *,
        identities: Identities | None = None,
        open_host: Open = open_as_host,
    ) -> None:
        """`known` returns the boards that exist now."""
        self._known = known
        self._identities = identities or Identities()
        self._open = open_host
        self._look = AutoResetEvent()
        self._look.set()

    def look(self) -> None:
        """Check again: boards may be gone, or the controller may accept the host again."""
        self._look.set()

    async def run(self) -> None:
        """Check at the start and after each `look`, until cancelled; retries while the controller is away."""
        backoff = Backoff(*GONE_RETRY_SECONDS)
        while True:
            await self._look.wait()
            try:
                await self._tell()
                backoff.reset()
            except JumpstarterError as error:
                _log.info("boards that are gone could not be retired yet: %s", error)
                with trio.move_on_after(backoff.next()):
                    await self._look.wait()
                self._look.set()

    async def _tell(self) -> None:
        host, gone = await trio.to_thread.run_sync(self._find, self._known())
        if host is None or not gone:
            return
        refused: JumpstarterError | None = None
        async with self._open(host) as channel:
            stub = BoardServiceStub(channel)
            for one in gone:
                try:
                    async with _alone(host, one.enrolment.name, self._identities):
                        if not _is_gone(one, self._known()):
                            continue  # the board returned while others were retired
                        request = boards_pb2.RetireBoardRequest(name=one.enrolment.name)
                        await stub.RetireBoard(request, timeout=CALL_SECONDS)
                        await trio.to_thread.run_sync(self._identities.remove, one.board)
                except (RpcError, PrivateFileError) as error:
                    if isinstance(error, RpcError) and error.code not in _NOT_ITS_OWN:
                        raise
                    refused = refused or error  # a failure of one board; the others are retired
                else:
                    _log.info("retired board %s: its file is gone", one.board)
        if refused is not None:
            raise refused

    def _find(self, known: KnownBoards) -> tuple[Enrolment | None, list[StoredIdentity]]:
        host = self._identities.find_host()
        if host is None:
            return None, []
        stored = (one for one in self._identities.every().values() if isinstance(one, StoredIdentity))
        return host, [one for one in stored if one.host == host.name and _is_gone(one, known)]


def _is_gone(stored: StoredIdentity, known: KnownBoards) -> bool:
    if stored.board in known.boards:
        return False
    if stored.config is None:
        return known.is_complete
    if claim.claim_holder(stored.config) is not None:
        return False  # a process of its own still serves it
    return stored.config in known.files or _is_no_file(stored.config)


def _is_no_file(path: Path) -> bool:
    """Whether the file is known not to exist. A file that this user may not see may exist."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _renewal(host: Enrolment) -> str:
    return (
        f"for a new token, the controller's administrator creates a code with `jumpstarter-controller admin pair host "
        f"{host.name} --renew`, and `jumpstarter-exporter enrol` takes it"
    )


def identity_of(enrolment: Enrolment) -> tuple[Identity, Trust]:
    """The identity of a board's exporter, and the certificates that it trusts."""
    return (
        Identity(Kind.EXPORTER, enrolment.namespace, enrolment.name, enrolment.token),
        Trust(ca=enrolment.tls.ca, insecure=enrolment.tls.insecure),
    )
