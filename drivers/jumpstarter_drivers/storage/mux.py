"""The storage multiplexer: a card that is connected to the host, to the board, or to neither.

A driver for a new multiplexer subclasses `StorageMux` and implements how to switch (`switch`), and the path of the
card on the host (`device`). Writing, reading, verification, progress and the handling of incomplete images are here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import trio
from jumpstarter_exporter.core import Core
from jumpstarter_exporter.driver import Driver, export
from jumpstarter_exporter.grpc_interface import GrpcInterface, jumpstarter_interface
from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.errors import JumpstarterError
from jumpstarter_proto.images import Content as ImageContent
from jumpstarter_proto.images import Verdict, check_content
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage.blocks import NoSpace, Progress, StorageDevice, StorageError
from jumpstarter_drivers.storage.changes.medium import Medium
from jumpstarter_drivers.storage.changes.messages import VERSION as CHANGES_VERSION
from jumpstarter_drivers.storage.changes.plan import FlashPlan
from jumpstarter_drivers.storage.changes.planned import PlannedFlash
from jumpstarter_drivers.storage.changes.receive import ChangeReceiver
from jumpstarter_drivers.storage.changes.stream import StreamedChanges
from jumpstarter_drivers.storage.content import ImageStream
from jumpstarter_drivers.storage.incomplete_marker import IncompleteMarker
from jumpstarter_drivers.storage.state import ContentState, Operation, Position, StorageState, WrittenImage

__all__ = ["StorageCore", "StorageMux", "WriteOptions"]

_REPORTS_PER_SECOND = 5
_CLEAN_UP_SECONDS = 60.0


class WriteOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Options of a flash besides the handle. A client of Jumpstarter 0.9 sends none."""

    size: int | None = None
    """Plain bytes of the whole image, when known: checked before the first byte and after the last."""
    compression: Literal["auto", "none", "gzip", "xz", "bz2", "zstd", "lzma", "lz4"] = "auto"
    """What the exporter takes off, on top of the handle's own encoding; auto tells by the content."""
    verify: bool | None = None
    """Overrides the driver's configuration."""
    force: bool | None = None
    """Write content of an unknown kind. None if the client has no such option: that of 0.9, and our first one."""
    changes: bool = False
    """The handle is a stream in both directions, on which blocks are compared as `changes.messages` says."""


class StorageCore(Core["StorageMux"]):
    """Where the storage is and what is on it, as far as the exporter knows, through all sessions."""

    def __init__(self, config: StorageMux) -> None:
        super().__init__(config)
        self.state = StorageState(config.initial_position())


@dataclass(kw_only=True, eq=False)
class StorageMux(Driver):
    """Base of all storage multiplexers.

    Closing it leaves the storage where it is. `release: host | dut | off` switches it at the end of each session that
    has used it; `leave`, which it is otherwise, does not. A write that fails or is cancelled leaves the storage `off`
    and marked incomplete; it goes to the board again after the next good write, or by force.
    """

    client: ClassVar[str] = "jumpstarter_driver_opendal.client.StorageMuxFlasherClient"
    interface: ClassVar[str] = "storage"
    grpc_interfaces: ClassVar[tuple[GrpcInterface, ...]] = (
        jumpstarter_interface("storage_mux"),
        jumpstarter_interface("storage"),
    )
    core_of: ClassVar[type[StorageCore]] = StorageCore

    release: Literal["leave", "host", "dut", "off"] | bool = "leave"
    """Where the end of a session that has used it switches the storage to. (YAML reads a bare `off` as false.)"""
    verify: bool = True
    """Read back and compare after writing."""
    hold: bool = False
    """Keep the storage to the exporter after a flash, as long as it is at the host and the session lasts, so that the
    next flash need not read it. The host cannot mount it meanwhile; `jumpstarter storage host` lets go of it."""
    content_check: Literal["ask", "refuse", "off"] = "ask"
    """What happens to content of an unknown kind: it is written when the user insists (a client that
    cannot say so gets a warning in the log), refused also to such a client, or written."""
    storage_timeout: float = 10.0
    """Seconds for a switch, and for the storage to appear at the host."""
    storage_fsync_timeout: float = 900.0
    """Seconds for the last flush."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("storage_timeout", "storage_fsync_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it takes a number of seconds above 0")
        if self.release is True:
            raise ValueError("release is on; it takes leave, host, dut or off")
        self._changed = trio.Event()
        self._positions = trio.Lock()
        self._disk = trio.CapacityLimiter(3)
        self._medium = Medium()

    # What a driver fills in.

    def initial_position(self) -> Position:
        """Return the position before the first switch; DUT unless the hardware reports another one."""
        return Position.DUT

    @abstractmethod
    async def switch(self, position: Position) -> None:
        """Connect the storage to `position` (never UNKNOWN) and return when it is.

        Raise OSError or a JumpstarterError. It may be cancelled after `storage_timeout` seconds.
        """

    async def read_position(self) -> Position | None:
        """Ask the hardware what the storage is connected to; None if it cannot tell. Raises as `switch` does."""
        return None

    @property
    def has_off(self) -> bool:
        """Whether the storage can be connected to neither; otherwise `off` connects it to the host."""
        return True

    @abstractmethod
    async def device(self) -> Path:
        """Where the host finds the storage; called at HOST only. Wait until it is there, however long."""

    @abstractmethod
    def incomplete_marker(self) -> IncompleteMarker:
        """The file that exists while an image is incomplete, so that the next start of the exporter knows it."""

    def limit(self) -> int | None:
        """Bytes that an image may have at most; None is as much as fits."""
        return None

    @property
    def has_size(self) -> bool:
        """Whether `limit` is the medium's own size, rather than a precaution."""
        return self.limit() is not None

    @property
    def switches(self) -> bool:
        """Whether another position than the host's takes the storage away from the host."""
        return True

    # Life cycle.

    @property
    def state(self) -> StorageState:
        """Position, content and operation; known once the driver is part of a tree."""
        core: StorageCore = self.core
        return core.state

    async def end_session(self) -> None:
        """Switch as `release` says; not to the board while the image is incomplete."""
        await self._medium.release()
        if self.release == "leave":
            return
        with self.exclusive("being switched"):
            await self._move(Position(str(self.release or "off")))

    async def open(self) -> None:
        """Find out whether an earlier write was never finished; the hardware is not touched."""
        reason = await trio.to_thread.run_sync(self.incomplete_marker().read, limiter=self._disk)
        if reason is not None and self.state.content is ContentState.UNCHANGED:
            self.state.mark_incomplete(reason)

    async def close(self) -> None:
        """Release the medium. The storage stays where it is."""
        await self._medium.release()

    # What users call.

    @export
    async def host(self) -> None:
        """Connect the storage to the host."""
        with self.exclusive("being switched"):
            await self._medium.release()
            await self._move(Position.HOST)

    @export
    async def dut(self, force: bool = False) -> None:
        """Connect the storage to the board; refused while it holds part of an image, unless forced."""
        with self.exclusive("being switched"):
            await self._medium.release()
            await self._move(Position.DUT, force=force)

    @export
    async def off(self) -> None:
        """Connect the storage to neither."""
        with self.exclusive("being switched"):
            await self._medium.release()
            await self._move(Position.OFF)

    @export(reads=True)
    async def status(self) -> JSON:
        """Position, content, the last image, the operation under way, and how content is checked."""
        if self.state.operation is None and not self._positions.locked():
            await self._refresh_position()
        return self._report()

    @export(reads=True)
    async def watch(self) -> AsyncIterator[JSON]:
        """Yield `status` now and on every change, at most a few times a second, until cancelled."""
        while True:
            changed = self._changed
            yield self._report()
            await trio.sleep(1 / _REPORTS_PER_SECOND)
            await changed.wait()

    @export
    async def write(self, handle: dict[str, JSON], options: WriteOptions | None = None) -> JSON:
        """Write an image; the storage must be at the host, and stays there when all went well."""
        options = options or WriteOptions()
        with self._at_work("being written", options.size):
            self.state.check_host()
            async with self._image(handle, options) as image:
                return await self._write(image, options)

    @export
    async def read(self, handle: dict[str, JSON]) -> JSON:
        """Read the whole storage, which must be at the host."""
        with self._at_work("being read"):
            return await self._read(handle)

    @export
    async def flash(
        self, handle: dict[str, JSON], target: str | None = None, options: WriteOptions | None = None
    ) -> JSON:
        """Switch to the host, write and verify, switch to the board; or, once a byte was written, `off`."""
        _refuse_target(target)
        options = options or WriteOptions()
        with self._at_work("being flashed", options.size):
            # Until it is known what the image is nothing changes: the file may not exist, the server may be down.
            async with self._image(handle, options) as image:
                before = await self._borrow()
                try:
                    result = await self._write(image, options)
                except BaseException:
                    # Not a byte was written, so all is as it was and may go where it was.
                    if (
                        self.state.position is Position.HOST
                        and self.state.content is not ContentState.INCOMPLETE
                    ):
                        await self._try_to_move_back(before)
                    raise
            await self._move(Position.DUT)
            return result

    @export
    async def dump(self, handle: dict[str, JSON], target: str | None = None) -> JSON:
        """Switch to the host, read all, and switch back to where it was."""
        _refuse_target(target)
        with self._at_work("being read"):
            before = await self._borrow()
            try:
                result = await self._read(handle)
            except BaseException:
                await self._try_to_move_back(before)
                raise
            await self._move_back(before)
            return result

    # How it is done.

    async def _move(self, position: Position, *, force: bool = False) -> None:
        if position is Position.OFF and not self.has_off:
            position = Position.HOST
        if position is Position.DUT:
            self.state.check_dut(force=force)
        await self._refresh_position()
        async with self._positions:
            await self._switch_to(position)

    async def _refresh_position(self) -> None:
        """Ask the hardware, which somebody else may have switched, or plugged in again."""
        async with self._positions:
            try:
                found = await self.read_position()
            except JumpstarterError:
                self.state.position = Position.UNKNOWN
                self._notify()
                raise
            if found is not None and found is not self.state.position:
                self.state.position = found
                self._notify()

    async def _switch_to(self, position: Position) -> None:
        if position is self.state.position:
            return
        if self.switches:
            await self._medium.release()
        self.state.position = Position.UNKNOWN
        self._notify()
        try:
            with trio.fail_after(self.storage_timeout):
                await self.switch(position)
        except trio.TooSlowError:
            raise StorageError(
                f"the storage did not switch to {position} within {self.storage_timeout:g} s; "
                "check the multiplexer's cable and power, then try again"
            ) from None
        except OSError as error:
            raise StorageError(
                f"the storage did not switch to {position}: {error}; check the multiplexer"
            ) from error
        self.state.position = position
        self._notify()

    async def _borrow(self) -> Position:
        """Switch to the host; returns from where. One that is cancelled meanwhile goes back."""
        await self._refresh_position()
        before = self.state.position
        try:
            await self._move(Position.HOST)
        except trio.Cancelled:
            await self._try_to_move_back(before)
            raise
        return before

    async def _try_to_move_back(self, before: Position) -> None:
        """Move back after an error or a cancellation. Errors of the move are only logged."""
        try:
            await self._move_back(before)
        except JumpstarterError as error:
            self.logger.warning("%s", error)

    async def _move_back(self, before: Position) -> None:
        with trio.CancelScope(shield=True):  # bounded by _move itself
            await self._move(Position.OFF if before is Position.UNKNOWN else before, force=True)

    async def _find(self) -> Path:
        try:
            with trio.fail_after(self.storage_timeout):
                return await self.device()
        except trio.TooSlowError:
            raise StorageError(
                f"the storage did not appear at the host within {self.storage_timeout:g} s; "
                "check that a card is in and the multiplexer is plugged in, or raise `storage_timeout`"
            ) from None

    @asynccontextmanager
    async def _image(
        self, handle: dict[str, JSON], options: WriteOptions
    ) -> AsyncIterator[ImageStream | PlannedFlash]:
        """The image, looked at: nothing is written or switched before."""
        if options.changes:
            async with self.exchange_resource(handle) as (source, sink):
                receiver = ChangeReceiver(source, sink, self._medium, self.threads)
                self._check_content(await receiver.start(), options.force)
                yield receiver
            return
        async with self.read_resource(handle) as source:
            image = ImageStream(source, options.compression, self.threads)
            await image.start()
            self._check_content(image.content, options.force)
            is_compared = handle.get("kind") == "presigned_request"
            yield StreamedChanges(image, self._medium, self.threads) if is_compared else image

    def _check_content(self, content: ImageContent, force: bool | None) -> None:
        if self.content_check == "off":
            check_content(content, force=True)
            return
        if force is None and content.verdict is Verdict.UNKNOWN and self.content_check == "ask":
            self.logger.warning(
                "the content is %s and is written all the same, because this client cannot be asked",
                content.name,
            )
            return
        by_setting = "`content_check: off` in the exporter's configuration"
        check_content(content, force=bool(force), way_to_insist=by_setting if force is None else "--force")

    async def _write(self, image: ImageStream | PlannedFlash, options: WriteOptions) -> JSON:
        self.state.check_host()
        path = await self._find()
        found = StorageDevice(
            path, writable=True, limiter=self._disk, flush_timeout=self.storage_fsync_timeout
        )
        async with self._medium.opened(found, holds=self.hold and isinstance(image, PlannedFlash)) as device:
            limit = await self._room(device, options.size)
            verify = self.verify if options.verify is None else options.verify
            if isinstance(image, StreamedChanges):
                image.stream.has_medium_size = device.is_block_device or self.has_size
            if isinstance(image, PlannedFlash):
                result = await self._write_changes(image, device, limit, options.size, verify)
            else:
                result = await self._write_all(image, device, limit, options.size, verify)
        if options.force is None:  # a client that does not show what it is answered
            for remark in result.remarks:
                self.logger.warning("%s", remark)
        self.state.written(result)
        self._notify()
        return asdict(result)

    async def _write_all(
        self, image: ImageStream, device: StorageDevice, limit: int | None, size: int | None, verify: bool
    ) -> WrittenImage:
        started = trio.current_time()
        image.has_medium_size = device.is_block_device or self.has_size
        async with self._unfinished():
            self._phase("writing", size)
            length, digest = await device.write(
                image, limit=limit, hashed=verify, progress=self._progress("writing", size)
            )
            _check_length(length, size)
            self._phase("flushing", None)
            await device.flush()
            await device.check_identity()
            if verify:
                await device.verify(length, digest, progress=self._progress("verifying", length))
        return WrittenImage(length, digest, round(trio.current_time() - started, 3), verify, image.remarks())

    async def _write_changes(
        self, image: PlannedFlash, device: StorageDevice, limit: int | None, size: int | None, verify: bool
    ) -> WrittenImage:
        """The storage is marked incomplete once a block is about to be written, which may be never."""
        started = trio.current_time()
        async with AsyncExitStack() as unfinished:
            beginning, has_begun = trio.Lock(), False

            async def begin_write() -> None:
                nonlocal has_begun
                async with beginning:
                    if not has_begun:
                        await unfinished.enter_async_context(self._unfinished())
                        has_begun = True

            def report(plan: FlashPlan) -> None:
                self.state.operation = Operation("comparing", plan.counts.done, size, image.counts())
                self._notify()

            self._phase("comparing", size)
            plan = await image.write(
                device,
                limit=limit,
                check_size=lambda length: _check_length(length, size),
                begin_write=begin_write,
                progress=report,
            )
            length = plan.size or 0
            if has_begun:
                self._phase("flushing", None)
                await device.flush()
            await device.check_identity()
            if verify:
                await image.verify(device, self._progress("verifying", plan.counts.written))
            await self._medium.settle()
            await begin_write()  # also removes the marker that an earlier write has left
        seconds = round(trio.current_time() - started, 3)
        return WrittenImage(
            length, image.sha256 if verify else "", seconds, verify, image.remarks(), image.counts()
        )

    async def _room(self, device: StorageDevice, size: int | None) -> int | None:
        bounds = [bound for bound in (self.limit(), await device.room()) if bound is not None]
        limit = min(bounds) if bounds else None
        if size is not None and limit is not None and size > limit:
            raise NoSpace(
                f"the image has {size} bytes and {device.path} takes {limit}; "
                "use a smaller image or a larger card"
            )
        return limit

    @contextmanager
    def _at_work(self, what: str, total: int | None = None) -> Iterator[None]:
        """Hold the storage for the block; there is an operation as long, so without one the next call is taken."""
        with self.exclusive(what):
            self._phase("starting", total)
            try:
                yield
            finally:
                self.state.operation = None
                self._notify()

    @asynccontextmanager
    async def _unfinished(self) -> AsyncIterator[None]:
        """Keep the storage marked incomplete for the block, and for good when the block fails."""
        marker = self.incomplete_marker()
        try:
            reason = "the exporter stopped while it was written"
            await trio.to_thread.run_sync(marker.write, reason, limiter=self._disk)
        except OSError as error:
            raise StorageError(
                f"nothing was written, because {marker.path} cannot note it ({error.strerror}); "
                "make its folder writable for the exporter"
            ) from error
        self.state.begin_write()
        try:
            yield
            await trio.to_thread.run_sync(marker.remove, limiter=self._disk)
        except BaseException as error:
            # Whatever it was, a cancel included, the board must not meet what is on the storage now.
            reason = _cause(error)
            self.state.mark_incomplete(reason)
            with trio.move_on_after(_CLEAN_UP_SECONDS, shield=True):
                await self._give_up(marker, reason)
            raise

    async def _give_up(self, marker: IncompleteMarker, reason: str) -> None:
        try:
            await self._move(Position.OFF)
        except JumpstarterError as error:
            self.logger.warning("after a failed write: %s", error)
        try:  # that it is incomplete was noted before the first byte; this says why
            await trio.to_thread.run_sync(marker.write, reason, abandon_on_cancel=True, limiter=self._disk)
        except OSError as error:
            self.logger.warning("cannot note why the storage is incomplete in %s: %s", marker.path, error)

    async def _read(self, handle: dict[str, JSON]) -> JSON:
        self.state.check_host()
        path = await self._find()
        started = trio.current_time()
        device = StorageDevice(path, writable=False, limiter=self._disk)
        async with device, self.write_resource(handle) as sink:
            length = await device.read(sink, progress=self._progress("reading", device.size))
            await device.check_identity()
        return {"bytes": length, "seconds": round(trio.current_time() - started, 3)}

    # What watchers see.

    def _report(self) -> dict[str, JSON]:
        return self.state.report() | {"content_check": self.content_check, "changes": CHANGES_VERSION}

    def _phase(self, phase: str, total: int | None) -> None:
        self.state.operation = Operation(phase, 0, total)
        self._notify()

    def _progress(self, phase: str, total: int | None) -> Progress:
        def report(done: int) -> None:
            self.state.operation = Operation(phase, done, total)
            self._notify()

        return report

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _check_length(length: int, announced: int | None) -> None:
    if announced is not None and length != announced:
        raise ContentError(
            f"the image is {announced} bytes long and {length} arrived; "
            "the file changed or was cut, flash it again"
        )


def _refuse_target(target: str | None) -> None:
    if target is not None:
        raise ValueError(
            f"this storage has no target {target!r}, it is flashed as a whole; leave the target out"
        )


def _cause(error: BaseException) -> str:
    """Return the first part of an error's sentence: what happened."""
    if isinstance(error, trio.Cancelled):
        return "the flash was cancelled or its connection was lost"
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    return str(error).partition(";")[0] or type(error).__name__
