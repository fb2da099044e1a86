"""What a file to flash is, said without a board: the same look at it that flashing begins with, and all of it read."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from jumpstarter_client.progress import progress
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.images import ImageReader, ImageRefused, Verdict, check_content, open_image

from jumpstarter_drivers.storage.local import FileSource, PathLike, is_url, open_source

__all__ = ["ImageFacts", "inspect_image"]

_STEP_BYTES = 1024 * 1024


@dataclass(frozen=True)
class ImageFacts:
    """What `inspect` finds out."""

    file: str
    layers: list[str]
    """What comes off, from the outermost: an encoding, or an archive and the file in it."""
    content: str
    """What is inside."""
    verdict: Verdict
    advice: str
    """Why it would not be flashed and what to do; empty if it would be."""
    bytes: int
    """Bytes of the unpacked image."""
    sha256: str
    """SHA-256 of the unpacked image."""
    remarks: list[str]
    """What would be left out."""

    @property
    def exit_code(self) -> ExitCode:
        """Whether it would be flashed as it is."""
        return ExitCode.OK if self.verdict is Verdict.IMAGE else ExitCode.FAILED

    def __str__(self) -> str:
        """Lines for people."""
        rows = [
            ("content", self.content),
            ("packed in", ", ".join(self.layers) or "nothing"),
            ("bytes", str(self.bytes)),
            ("sha256", self.sha256),
            *(("remark", remark) for remark in self.remarks),
            ("flash", "yes" if self.verdict is Verdict.IMAGE else f"no, {self.advice}"),
        ]
        return "\n".join(f"{name + ':':<11}{text}" for name, text in rows)


async def inspect_image(path: PathLike) -> ImageFacts:
    """Look at a file, `-` or a URL, which is fetched from here, and read all of it.

    Raises:
        LocalFileError, TransferError: it cannot be read.
        ContentError: it is damaged, or an archive without exactly one image.
    """
    async with _opened(path) as (image, total):
        digest = hashlib.sha256()
        count = 0

        def step() -> int:
            data = image.read(_STEP_BYTES)
            digest.update(data)
            return len(data)

        with progress(total, "inspect") as bar:
            # A pipe may stall for ever, and Ctrl-C must not wait for it; what is fetched hears of it by itself.
            while length := await trio.to_thread.run_sync(step, abandon_on_cancel=not is_url(path)):
                count += length
                bar.update(count)
        return ImageFacts(
            file=str(path),
            layers=[str(layer) for layer in image.layers],
            content=image.content.name,
            verdict=image.content.verdict,
            advice=_advice(image),
            bytes=count,
            sha256=digest.hexdigest(),
            remarks=list(image.remarks()),
        )


def _advice(image: ImageReader) -> str:
    try:
        check_content(image.content)
    except ImageRefused as refused:
        return str(refused).partition(": ")[2] or str(refused)
    return ""


@asynccontextmanager
async def _opened(path: PathLike) -> AsyncIterator[tuple[ImageReader, int | None]]:
    if is_url(path):
        from jumpstarter_proto.transfer import TransferRequest, get  # noqa: PLC0415 - files come from disks mostly

        async with get(TransferRequest("GET", str(path))) as (receive, _):
            yield await trio.to_thread.run_sync(open_image, _puller(receive)), None
        return
    async with open_source(path) as source:
        yield await trio.to_thread.run_sync(_rewound, source, abandon_on_cancel=True), source.image.size


def _rewound(source: FileSource) -> ImageReader:
    """The image from its begin on, whatever of it is sent to an exporter as it is."""
    return source.image if not source.encoding else open_image(source.read)


def _puller(receive: Callable[[], Awaitable[bytes]]) -> Callable[[int], bytes]:
    rest = memoryview(b"")

    def pull(count: int) -> bytes:
        nonlocal rest
        if not rest:
            rest = memoryview(trio.from_thread.run(receive))
        taken, rest = rest[:count], rest[count:]
        return bytes(taken)

    return pull
