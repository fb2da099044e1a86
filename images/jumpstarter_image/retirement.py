"""Remove a secret from a file on the FAT partition, which has no journal, by writing blanks in its place.

The file keeps its length and its place, so the allocation table does not change, the directory only in a time stamp,
and the secret is gone from the card's logical blocks. A disk writes one sector completely or not at all. A secret
inside one sector is blanked with one write. A secret in two sectors is first made a comment with one character. So
after a power cut between the next writes, the file still has the same meaning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml
from jumpstarter_proto.yaml_files import BlankingError, blanked, load_text

from jumpstarter_image.site_text import SiteText

__all__ = ["SECTOR_BYTES", "Write", "writes_without", "writes_without_in_comments"]

SECTOR_BYTES = 512


@dataclass(frozen=True)
class Write:
    """Bytes that replace others, and must be on the disk before the next write begins."""

    offset: int
    data: bytes


def writes_without(site: SiteText, path: Sequence[str]) -> list[Write]:
    """The writes that remove a key.

    Raises:
        BlankingError: there are no writes that are safe against a power cut at any moment.
    """
    text, left = site.text, blanked(site.text, path)
    changed = [at for at, (one, other) in enumerate(zip(text, left, strict=True)) if one != other]
    if not changed:
        return []
    begin, end = changed[0], changed[-1] + 1
    unit = len(" ".encode(site.encoding))
    offset = len(site.mark) + len(text[:begin].encode(site.encoding))
    blanks = "".join(
        one if one in "\r\n" else " " * (len(one.encode(site.encoding)) // unit) for one in text[begin:end]
    ).encode(site.encoding)
    final = Write(offset, blanks)
    if offset // SECTOR_BYTES == (offset + len(blanks) - 1) // SECTOR_BYTES:
        return [final]
    commented = f"{text[:begin]}#{text[begin + 1 :]}"
    if not _says_the_same(commented, left) or "\n" in text[begin:end] or "\r" in text[begin:end]:
        raise BlankingError(f"{'.'.join(path)} cannot be removed; write it on a separate line")
    mark = "#".encode(site.encoding)
    # The comment mark is removed last, or stays.
    return [
        Write(offset, mark),
        Write(offset + len(mark), blanks[len(mark) :]),
        Write(offset, blanks[: len(mark)]),
    ]


def writes_without_in_comments(site: SiteText, secret: str) -> list[Write]:
    """The writes that remove a secret from comments, where it may stand a second time, such as behind the key.

    A comment of which a power cut has left a part is still a comment, so their order is of no importance.
    """
    writes: list[Write] = []
    left = site.text
    for found in re.finditer(re.escape(secret), site.text):
        begin, end = found.span()
        line = re.split(r"[\r\n]", site.text[:begin])[-1]
        if "#" in line:
            blanks = " " * (end - begin)
            left = left[:begin] + blanks + left[end:]
            offset = len(site.mark) + len(site.text[:begin].encode(site.encoding))
            writes.append(Write(offset, blanks.encode(site.encoding)))
    # A `#` between quotes begins no comment.
    return writes if _says_the_same(site.text, left) else []


def _says_the_same(one: str, other: str) -> bool:
    try:
        return bool(load_text(one) == load_text(other))
    except yaml.YAMLError:
        return False
