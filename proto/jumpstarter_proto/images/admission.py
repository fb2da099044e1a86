"""Which content goes onto a medium: the refusals, each with its way out."""

from __future__ import annotations

from jumpstarter_proto.encoding import ContentError
from jumpstarter_proto.images.signatures import Content, Verdict

__all__ = ["FREE_GROWTH_BYTES", "MAX_GROWTH", "ImageRefused", "check_content", "check_growth"]

FREE_GROWTH_BYTES = 1024**3
"""Up to here content may grow as it likes."""
MAX_GROWTH = 1000
"""Beyond that, plain bytes for one packed byte, where no medium is the bound. A card's image has 2 to 50."""


class ImageRefused(ContentError):  # noqa: N818 - what happened, as in the docs
    """Nothing was written, because the content is nothing that a board boots from."""


def check_content(content: Content, *, force: bool = False, way_to_insist: str = "--force") -> None:
    """Raise ImageRefused unless the content is an image or the user insists. Empty content is always refused."""
    if content.verdict is Verdict.IMAGE or (force and content.name != "empty"):
        return
    if content.name == "empty":
        raise ImageRefused("the image is empty; nothing was written, check the file")
    if content.verdict is Verdict.UNUSABLE:
        raise ImageRefused(
            f"nothing was written: the content is {content.name}; {content.advice}, "
            f"or write it unchanged with {way_to_insist}"
        )
    raise ImageRefused(
        f"nothing was written: the content is {content.name}, without a known partition table, file system "
        f"or boot image; check the file, or write it unchanged with {way_to_insist}"
    )


def check_growth(packed: int, plain: int) -> None:
    """Raise ContentError for content that grows out of all proportion; for media without a size of their own."""
    if plain > FREE_GROWTH_BYTES and plain > packed * MAX_GROWTH:
        raise ContentError(
            f"{packed} bytes have become {plain}, so this may be a decompression bomb; if it is not, "
            "give the storage a `size` in the exporter's configuration"
        )
