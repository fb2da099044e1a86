"""Flash and dump a board's storage, and switch it between host and board."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NotRequired, TypedDict, cast

import trio
from jumpstarter_client.base import DriverClient
from jumpstarter_client.errors import DriverError, DriverMethodNotImplemented
from jumpstarter_client.progress import Bar, progress
from jumpstarter_client.twin import twin, twin_iter
from jumpstarter_client.verb import verb
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.images import check_content
from jumpstarter_proto.texts import shown
from jumpstarter_proto.value import JSON

from jumpstarter_drivers.storage.changes.messages import VERSION as CHANGES_VERSION
from jumpstarter_drivers.storage.changes.send import ChangeSender
from jumpstarter_drivers.storage.local import (
    FileSource,
    PathLike,
    StorageOperator,
    is_url,
    open_block_map,
    open_sink,
    open_source,
    request,
)
from jumpstarter_drivers.storage.tasks import together

if TYPE_CHECKING:
    from cyclopts import Parameter

__all__ = ["DumpResult", "FlashResult", "FlasherClient", "StorageMuxClient", "StorageMuxFlasherClient"]

Compression = Literal["gzip", "xz", "bz2", "zstd", "none"]
"""Of a dump."""
Packing = Literal["gzip", "xz", "bz2", "zstd", "lzma", "lz4", "none"]
"""Of an image."""
Handle = dict[str, JSON]

_MB = 1e6

MAX_RESUMPTIONS = 5
"""Of one flash whose connection breaks."""
FREE_SECONDS = 90.0
"""What an exporter may take to notice that a connection broke, and to switch the storage off."""


class ArgumentError(JumpstarterError, ValueError):
    """Arguments that do not go together."""

    status = "INVALID_ARGUMENT"
    exit_code = ExitCode.USAGE


class IncompleteDumpError(JumpstarterError):
    """Fewer bytes arrived than the exporter has read."""

    status = "DATA_LOSS"


@dataclass(frozen=True)
class FlashResult:
    """The result of a flash. An exporter of Jumpstarter 0.9 reports none of it."""

    bytes: int | None
    seconds: float
    sha256: str
    verified: bool
    remarks: tuple[str, ...] = ()
    """What of the file was left out."""
    changes: Mapping[str, int] | None = None
    """Bytes `read` from the storage to compare, `skipped` because they were there, `unmapped` and `written`; None when
    all was written, as it came."""

    def __str__(self) -> str:
        """One line for people, and one for each remark."""
        return "\n".join([self._summary(), *(shown(remark) for remark in self.remarks)])

    def _summary(self) -> str:
        if self.bytes is None:
            return f"flashed in {self.seconds:.1f} s"
        checked = "verified" if self.verified else "not verified"
        rate = _rate(self.bytes, self.seconds)
        changed = "" if self.changes is None else f", {self.changes['written']} of them written"
        return f"flashed {self.bytes} bytes in {self.seconds:.1f} s ({rate}){changed}, {checked}"


@dataclass(frozen=True)
class DumpResult:
    """What a dump has read and where it is."""

    bytes: int
    """As in the file, compressed if it is."""
    seconds: float
    path: str

    def __str__(self) -> str:
        """One line for people."""
        rate = _rate(self.bytes, self.seconds)
        return f"dumped {self.bytes} bytes to {self.path} in {self.seconds:.1f} s ({rate})"


def _no_option(_hint: object, file: str | None) -> None:
    """A hyphen alone is standard input; with more behind it, it was meant as an option."""
    if file is not None and file.startswith("-") and file != "-":
        raise ValueError(f"There is no option {file}")


@dataclass(frozen=True)
class _Choices:
    """The user's options for an image."""

    compression: Packing | None = None
    """Told by the content if left out."""
    verify: bool | None = None
    force: bool = False
    whole: bool = False
    """Send all of it, as it is packed, and write all of it."""
    bmap: PathLike | None = "none"
    """The block map; None is the one beside the image, if there is one, and `none` is none."""


@dataclass(frozen=True)
class _Upload:
    """An image on offer to the exporter."""

    handle: Handle
    size: int | None
    """Plain bytes, when known."""
    compression: str
    """What the exporter shall take off, beyond the handle's encoding."""
    bar: Bar
    source: FileSource | None
    """The local file; None when the exporter fetches a URL."""
    choices: _Choices
    sender: ChangeSender | None = None
    """The image's end of a flash of changes."""

    def remarks(self) -> tuple[str, ...]:
        """At the end: what was left out here."""
        if self.sender is not None:
            return self.sender.image.remarks()
        return self.source.remarks() if self.source else ()


class FlasherClient(DriverClient):
    """Writes images to named targets of a board, and reads them back."""

    interface: ClassVar[str] = "storage"

    @twin
    async def flash(
        self,
        path: PathLike | Mapping[str, PathLike],
        *,
        target: str | None = None,
        operator: StorageOperator | Mapping[str, StorageOperator] | None = None,
        compression: Packing | None = None,
        verify: bool | None = None,
        force: bool = False,
        whole: bool = False,
        bmap: PathLike | None = None,
    ) -> FlashResult | dict[str, FlashResult]:
        """Write an image: a file, `-` for standard input, a URL, or a dict of target to one of these.

        What the image is packed in is told by the content unless `compression` is given; `none` takes nothing off. Only
        what differs from what the storage has is sent and written, unless `whole` is true, and of a file that has a
        block map beside it (`image.bmap`) only what that maps; `bmap` is another map, or `none`.
        `verify` left out does what the exporter's configuration says. Raises JumpstarterError, and the storage is
        then in the state that the driver documents; ImageRefused, before anything is done, when the content is
        nothing that a board boots from, unless it is `force`d.
        """
        choices = _Choices(compression, verify, force, whole, bmap)
        if isinstance(path, Mapping):
            if target is not None:
                raise ArgumentError("a dict of images names its targets itself; leave `target` out")
            results = {}
            for name, image in path.items():
                chosen = operator.get(name) if isinstance(operator, Mapping) else operator
                results[name] = await self._flash_one(image, name, chosen, choices)
            return results
        if isinstance(operator, Mapping):
            raise ArgumentError("a dict of operators goes with a dict of images; pass one operator")
        return await self._flash_one(path, target, operator, choices)

    @twin
    async def dump(
        self,
        path: PathLike,
        *,
        target: str | None = None,
        operator: StorageOperator | None = None,
        compression: Compression | None = None,
        force: bool = True,
    ) -> DumpResult:
        """Read the storage into a file, which has its name only once it is complete.

        An existing file is replaced then, as Jumpstarter does; with `force=False` it is an error.
        """
        started = trio.current_time()
        if is_url(path):
            count = await self._dump_to(request(str(path), "PUT"), target)
            return DumpResult(count or 0, trio.current_time() - started, str(path))
        encoding = None if compression in (None, "none") else compression
        async with open_sink(path, operator, force=force) as sink:
            with progress(None, "dump") as bar:
                sink.progress = bar.update
                async with self.resource_async(sink, encoding) as handle:
                    count = await self._dump_to(handle, target)
            if encoding is None and count is not None and count != sink.received:
                raise IncompleteDumpError(
                    f"the exporter read {count} bytes and {sink.received} arrived; "
                    "nothing was kept, dump again"
                )
        return DumpResult(sink.received, trio.current_time() - started, str(path))

    @verb(name="flash")
    @twin
    async def flash_verb(
        self,
        file: Annotated[str | None, Parameter(allow_leading_hyphen=True, validator=_no_option)] = None,
        /,
        *,
        target: Annotated[
            tuple[str, ...], Parameter(name=["--target", "-t"], negative="", show_default=False)
        ] = (),
        compression: Packing | None = None,
        verify: bool = True,
        force: Annotated[bool, Parameter(negative="")] = False,
        whole: Annotated[bool, Parameter(negative="")] = False,
        bmap: str | None = None,
    ) -> FlashResult | dict[str, FlashResult]:
        """Write an image to the storage and verify it.

        Parameters
        ----------
        file
            A file, an http(s) URL that the exporter fetches, or - for standard input.
        target
            NAME:FILE writes FILE to one target of the board; may be given several times.
        compression
            Compression of the file; default: detected from the content; "none" writes it unchanged.
        verify
            Read the written data back and compare it.
        force
            Write it even if a board cannot boot from it.
        whole
            Send and write the whole image, not only the parts that differ from the storage.
        bmap
            Block map of the image; default: the one beside the image; "none" uses none.
        """
        checked = None if verify else False
        if target:
            if file is not None:
                raise ArgumentError("give either FILE or --target NAME:FILE, not both")
            images = dict(_target(text) for text in target)
            return await self.flash.aio(
                images, compression=compression, verify=checked, force=force, whole=whole, bmap=bmap
            )
        if file is None:
            raise ArgumentError("which image? give a FILE, a URL or - for standard input")
        return await self.flash.aio(
            file, compression=compression, verify=checked, force=force, whole=whole, bmap=bmap
        )

    @verb(name="dump")
    @twin
    async def dump_verb(
        self,
        file: str,
        /,
        *,
        target: str | None = None,
        compression: Compression | None = None,
        force: Annotated[bool, Parameter(negative="")] = False,
    ) -> DumpResult:
        """Read the storage into FILE, which is created when it is complete.

        Parameters
        ----------
        file
            The file to write.
        target
            Target of the board, if it has several.
        compression
            Compress the file; default: not compressed.
        force
            Replace FILE if it exists.
        """
        return await self.dump.aio(file, target=target, compression=compression, force=force)

    @verb(name="inspect", needs_device=False)
    def inspect_verb(
        self,
        file: Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)],
        /,
    ) -> object:
        """Print the type and compression of FILE, and whether it can be flashed; needs no board.

        Parameters
        ----------
        file
            A file, an http(s) URL, or - for standard input.
        """
        from jumpstarter_drivers.storage.inspection import inspect_image  # noqa: PLC0415 - few commands inspect

        return trio.run(inspect_image, file)

    async def _flash_one(
        self,
        path: PathLike,
        target: str | None,
        operator: StorageOperator | None,
        choices: _Choices,
    ) -> FlashResult:
        started = trio.current_time()
        async with self._upload(path, operator, choices) as upload:
            result = await self._write(upload, target)
            remarks = upload.remarks()
        return _flash_result(result, trio.current_time() - started, remarks)

    async def _write(self, upload: _Upload, target: str | None) -> JSON:
        """Hand the upload to the driver. A flasher of named targets knows no options."""
        return await self.call_async("flash", upload.handle, target)

    async def _dump_to(self, handle: Handle, target: str | None) -> int | None:
        return _count(await self.call_async("dump", handle, target))

    @asynccontextmanager
    async def _upload(
        self, path: PathLike, operator: StorageOperator | None, choices: _Choices
    ) -> AsyncIterator[_Upload]:
        """Offer a file to the exporter, with a progress bar. Raises ImageRefused before the exporter is asked."""
        if is_url(path) and operator is None:
            with progress(None, "flash") as bar:
                yield _Upload(
                    request(str(path), "GET"), None, choices.compression or "auto", bar, None, choices
                )
            return
        takes_changes = not choices.whole and await self._takes_changes()
        async with _offer(self, path, operator, choices, takes_changes) as upload:
            yield upload

    async def _takes_changes(self) -> bool:
        """Whether the exporter compares blocks; a flasher of named targets does not."""
        await trio.lowlevel.checkpoint()
        return False


@asynccontextmanager
async def _offer(
    client: DriverClient,
    path: PathLike,
    operator: StorageOperator | None,
    choices: _Choices,
    takes_changes: bool,
) -> AsyncIterator[_Upload]:
    async with open_source(path, operator, choices.compression) as source:
        check_content(source.image.content, force=choices.force)
        with progress(source.total, "flash") as bar:
            source.progress = bar.update
            if takes_changes:
                is_file = operator is None and path != "-"
                block_map = await open_block_map(path, choices.bmap) if is_file else None
                if block_map is not None and source.plain_size is not None:
                    block_map.check_size(source.plain_size)
                sender = ChangeSender(await source.unpacked(choices.compression), block_map)
                async with client.resource_async(sender) as handle:
                    yield _Upload(handle, source.plain_size, "none", bar, source, choices, sender)
                return
            async with client.resource_async(source, source.encoding) as handle:
                yield _Upload(handle, source.plain_size, "none", bar, source, choices)


class StorageMuxClient(DriverClient):
    """Switches a storage between the host and the board, and writes and reads it at the host."""

    interface: ClassVar[str] = "storage"

    @verb
    @twin
    async def host(self) -> None:
        """Connect the storage to the host."""
        await self.call_async("host")

    @twin
    async def dut(self, *, force: bool = False) -> None:
        """Connect the storage to the board; `force` it even with an incomplete image on it."""
        await self.call_async("dut", *([True] if force else []))

    @verb(name="dut")
    @twin
    async def dut_verb(self, *, force: Annotated[bool, Parameter(negative="")] = False) -> None:
        """Connect the storage to the board.

        Parameters
        ----------
        force
            Connect it even if it contains an incomplete image.
        """
        await self.dut.aio(force=force)

    @verb
    @twin
    async def off(self) -> None:
        """Connect the storage to neither the host nor the board."""
        await self.call_async("off")

    @verb
    @twin
    async def status(self) -> JSON:
        """Show where the storage is connected, and what is known about its content."""
        return await self.call_async("status")

    @twin_iter
    async def watch(self) -> AsyncIterator[JSON]:
        """The status, now and at every change, until the iteration is left."""
        async with aclosing(self.streamingcall_async("watch")) as reports:
            async for report in reports:
                yield report

    @twin
    async def write(self, handle: Handle) -> JSON:
        """Write what a resource handle gives; the storage must be at the host."""
        return await self.call_async("write", handle)

    @twin
    async def read(self, handle: Handle) -> JSON:
        """Read the storage into a resource handle; the storage must be at the host."""
        return await self.call_async("read", handle)

    @twin
    async def write_file(self, operator: StorageOperator, path: str, *, force: bool = False) -> JSON:
        """Write a file of a storage service, such as opendal's, as it is; the storage must be at the host."""
        return await self._write_file(path, operator, force)

    @twin
    async def read_file(self, operator: StorageOperator, path: str) -> JSON:
        """Read the storage into a file of a storage service; the storage must be at the host."""
        return await self._read_file(path, operator)

    @twin
    async def write_local_file(self, filepath: PathLike, *, force: bool = False) -> JSON:
        """Write a local file as it is; the storage must be at the host. `force` is that of `flash`."""
        return await self._write_file(filepath, None, force)

    @twin
    async def read_local_file(self, filepath: PathLike) -> JSON:
        """Read the storage into a local file, which has its name only once it is complete."""
        return await self._read_file(filepath, None)

    @verb(name="write-local-file")
    @twin
    async def write_local_file_verb(
        self, file: str, /, *, force: Annotated[bool, Parameter(negative="")] = False
    ) -> None:
        """Write FILE unchanged and without switching the storage, which must be connected to the host.

        Parameters
        ----------
        file
            A file, or - for standard input.
        force
            Write it even if a board cannot boot from it.
        """
        await self._write_file(file, None, force)

    async def _write_file(self, path: PathLike, operator: StorageOperator | None, force: bool) -> JSON:
        choices = _Choices("none", force=force)
        async with _offer(self, path, operator, choices, await self._takes_changes()) as upload:
            options = await self._options(upload)
            return await self.call_async("write", upload.handle, *([] if options is None else [options]))

    async def _options(self, upload: _Upload) -> dict[str, JSON] | None:
        """What the exporter wants to know beside the handle; None for one of Jumpstarter 0.9."""
        status = await self._status()
        if status is None:
            return None
        options: dict[str, JSON] = {
            "size": upload.size,
            "compression": upload.compression,
            "verify": upload.choices.verify,
        }
        if "content_check" in status:  # our first exporters know no such option
            options["force"] = upload.choices.force
        if upload.sender is not None:
            options["changes"] = True
        return options

    async def _takes_changes(self) -> bool:
        """Whether the exporter compares blocks in the way that we know; older ones and 0.9's do not."""
        status = await self._status()
        return status is not None and status.get("changes") == CHANGES_VERSION

    async def _status(self) -> Mapping[str, JSON] | None:
        """The storage's status; 0.9's drivers have none."""
        try:
            status = await self.call_async("status")
        except DriverMethodNotImplemented:
            return None
        return status if isinstance(status, Mapping) else {}

    async def _read_file(self, path: PathLike, operator: StorageOperator | None) -> JSON:
        async with open_sink(path, operator, force=True) as sink:
            with progress(None, "read") as bar:
                sink.progress = bar.update
                async with self.resource_async(sink) as handle:
                    return await self.call_async("read", handle)


class StorageMuxFlasherClient(FlasherClient, StorageMuxClient):
    """A multiplexed storage that is flashed as a whole: to the host, write, verify, to the board.

    Our exporter does all of that in one call, so that a client that dies half-way leaves a known state. With
    one of Jumpstarter 0.9 the steps are made from here; an image that did not get through then leaves the
    storage at the host, so that the board cannot boot it.
    """

    async def _flash_one(
        self,
        path: PathLike,
        target: str | None,
        operator: StorageOperator | None,
        choices: _Choices,
    ) -> FlashResult:
        if target is not None:
            raise ArgumentError(f"this storage is flashed as a whole; leave the target {target!r} out")
        can_resume = operator is None and path != "-" and not choices.whole and not is_url(path)
        for resumptions_left in reversed(range(MAX_RESUMPTIONS + 1)):
            try:
                return await super()._flash_one(path, target, operator, choices)
            except DriverError as error:
                if not (can_resume and resumptions_left and _was_cut(error) and await self._takes_changes()):
                    raise
                self.logger.warning("the connection broke; the flash continues with the missing part")
            await self._wait_until_free()
        raise AssertionError

    async def _wait_until_free(self) -> None:
        """Until the exporter has noticed that a flash was cut, and left the storage in a known state."""
        with trio.move_on_after(FREE_SECONDS):
            async with aclosing(self.streamingcall_async("watch")) as reports:
                async for report in reports:
                    if cast("_Report", report)["operation"] is None:
                        return

    async def _takes_changes(self) -> bool:
        return await StorageMuxClient._takes_changes(self)  # noqa: SLF001 - our own, of two bases

    async def _write(self, upload: _Upload, target: str | None) -> JSON:
        options = await self._options(upload)
        if options is None:
            await self.call_async("host")
            written: JSON = await self.call_async("write", upload.handle)
            await self.call_async("dut")
            return written
        async with together() as nursery:
            nursery.start_soon(self._follow, upload)
            result: JSON = await self.call_async("flash", upload.handle, target, options)
            nursery.cancel_scope.cancel()
        return result

    async def _dump_to(self, handle: Handle, target: str | None) -> int | None:
        if target is not None:
            raise ArgumentError(f"this storage is dumped as a whole; leave the target {target!r} out")
        if await self._status() is not None:
            return _count(await self.call_async("dump", handle))
        await self.call_async("host")
        result = await self.call_async("read", handle)
        await self.call_async("dut")
        return _count(result)

    async def _follow(self, upload: _Upload) -> None:
        """Show what the exporter does once the local file is sent, or all the time when it fetches a URL."""
        async with aclosing(self.streamingcall_async("watch")) as reports:
            async for report in reports:
                operation = cast("_Report", report)["operation"]
                is_ours_to_show = upload.source is not None and upload.sender is None
                if operation is None or (operation["phase"] == "writing" and is_ours_to_show):
                    continue
                upload.bar.show(
                    operation["phase"], operation["done"], operation["total"], _note(operation.get("changes"))
                )


class _Operation(TypedDict):
    phase: str
    done: float
    total: float | None
    changes: NotRequired[Mapping[str, JSON] | None]
    """Older exporters say none."""


class _Report(TypedDict):
    operation: _Operation | None


def _target(text: str) -> tuple[str, str]:
    name, colon, file = text.partition(":")
    if not colon or not name or not file:
        raise ArgumentError(f"--target {text!r} is not NAME:FILE, for example --target boot:boot.img")
    return name, file


def _was_cut(error: DriverError) -> bool:
    """Whether the connection broke, after which there may be another."""
    from jumpstarter_client.transport import ConnectionLostError  # noqa: PLC0415 - few flashes are cut

    return isinstance(error.__cause__, ConnectionLostError)


def _count(result: JSON) -> int | None:
    """Return how many bytes the exporter reports; None for Jumpstarter 0.9."""
    if isinstance(result, Mapping) and isinstance(count := result.get("bytes"), float):
        return int(count)
    return None


def _flash_result(result: JSON, seconds: float, remarks: tuple[str, ...]) -> FlashResult:
    facts = result if isinstance(result, Mapping) else {}
    told = facts.get("remarks")
    return FlashResult(
        bytes=_count(result),
        seconds=round(seconds, 3),
        sha256=str(facts.get("sha256", "")),
        verified=facts.get("verified") is True,
        remarks=(*remarks, *(map(str, told) if isinstance(told, list) else ())),
        changes=_changes(facts.get("changes")),
    )


def _note(told: JSON) -> str:
    """Return the text of a progress line beside the byte count."""
    changes = _changes(told)
    if changes is None:
        return ""
    parts = (f"{changes[name] / _MB:.1f} MB {name}" for name in ("read", "skipped", "written"))
    return ", ".join(parts)


def _changes(told: JSON) -> dict[str, int] | None:
    if not isinstance(told, Mapping):
        return None
    names = ("read", "skipped", "unmapped", "written")
    return {name: int(count) if isinstance(count := told.get(name), float) else 0 for name in names}


def _rate(count: int, seconds: float) -> str:
    return f"{count / max(seconds, 1e-9) / _MB:.1f} MB/s"
