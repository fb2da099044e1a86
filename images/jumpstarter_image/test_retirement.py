from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.yaml_files import BlankingError, load_text

from jumpstarter_image.fat import STATUS_BYTES, change_in_place, write_padded
from jumpstarter_image.retirement import SECTOR_BYTES, Write, writes_without, writes_without_in_comments
from jumpstarter_image.site_text import SiteText

PATH = ("wifi", "passphrase")


def file_with(before: int, secret: str, *, flow: bool = False) -> str:
    """A file whose secret begins after so many characters."""
    if flow:
        return "#" * before + f"\nwifi: {{ssid: Lab, passphrase: {secret}, country: DE}}\n# end\n"
    return "#" * before + f"\nwifi:\n  ssid: Lab\n  passphrase: {secret}   # from Ann\n  country: DE\n# end\n"


def after(raw: bytes, writes: list[Write], sectors: set[int]) -> bytes:
    """The disk with all writes but the last, of which only these sectors have got there."""
    disk = bytearray(raw)
    for write in writes[:-1]:
        disk[write.offset : write.offset + len(write.data)] = write.data
    for at, byte in enumerate(writes[-1].data, writes[-1].offset):
        if at // SECTOR_BYTES in sectors:
            disk[at] = byte
    return bytes(disk)


@given(
    st.integers(0, 2 * SECTOR_BYTES),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=63),
    st.sampled_from(["", "'", '"']),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("utf-16-le", b"\xff\xfe")]),
    st.booleans(),
)
def test_a_power_cut_leaves_the_secret_or_the_file_without_it(  # noqa: PLR0917 - drawn one by one
    before: int,
    secret: str,
    quote: str,
    end: str,
    how: tuple[str, bytes],
    flow: bool,
) -> None:
    text = file_with(before, f"{quote}{secret}{quote}", flow=flow).replace("\n", end)
    site = SiteText(text, *how)
    raw = site.encoded(text)
    old, new = load_text(text), {"wifi": {"ssid": "Lab", "country": "DE"}}
    try:
        writes = writes_without(site, PATH)
    except BlankingError:
        assert flow, "a secret on a line of its own can always be taken out"
        return
    for count in range(1, len(writes) + 1):
        made = writes[:count]
        sectors = sorted(
            {at // SECTOR_BYTES for at in range(made[-1].offset, made[-1].offset + len(made[-1].data))}
        )
        for chosen in itertools.chain.from_iterable(
            itertools.combinations(sectors, number) for number in range(len(sectors) + 1)
        ):
            disk = after(raw, made, set(chosen))
            assert load_text(SiteText.decoded(disk).text) in (old, new)
    final = after(raw, writes, set(range(10)))
    assert len(final) == len(raw)
    assert load_text(SiteText.decoded(final).text) == new
    assert final.count(" ".encode(how[0]) * len(secret))
    assert raw.startswith(final[: writes[0].offset])
    # Every character that is not a blank is where it was.
    assert all(one in (other, " ") for one, other in zip(SiteText.decoded(final).text, text, strict=True))


def test_a_secret_between_braces_that_crosses_sectors_is_left_for_its_owner() -> None:
    text = file_with(SECTOR_BYTES - 42, "a passphrase", flow=True)
    with pytest.raises(
        BlankingError, match=r"wifi\.passphrase cannot be removed; write it on a separate line"
    ):
        writes_without(SiteText(text), PATH)
    assert len(writes_without(SiteText(text[40:]), PATH)) == 1


def test_a_file_is_changed_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "jumpstarter.yaml"
    site = SiteText(file_with(0, "a passphrase"))
    raw = site.encoded(site.text)
    file.write_bytes(raw)
    inode = file.stat().st_ino
    assert change_in_place(file, raw, writes_without(site, PATH)) != raw
    assert file.read_text() == site.text.replace("passphrase: a passphrase", " " * 24)
    assert file.stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["jumpstarter.yaml"]


def test_a_file_that_was_saved_meanwhile_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "jumpstarter.yaml"
    site = SiteText(file_with(0, "a passphrase"))
    for text in (file_with(0, "another one"), f"{site.text}# more\n", site.text[:-1], ""):
        file.write_text(text)
        raw = site.encoded(site.text)
        assert change_in_place(file, raw, writes_without(site, PATH)) == raw
        assert file.read_text() == text


def test_the_status_has_one_length_and_is_written_when_it_is_another(tmp_path: Path) -> None:
    file = tmp_path / "status.txt"
    for data in (b"one\r\n", b"two\r\n", b"x" * 3 * STATUS_BYTES, b""):
        assert write_padded(file, data)
        before = file.stat()
        assert not write_padded(file, data)
        assert file.stat().st_mtime_ns == before.st_mtime_ns
        assert before.st_size == STATUS_BYTES
        assert file.read_bytes().rstrip(b"\r\n ") == data[:STATUS_BYTES].rstrip()
    file.write_bytes(b"y" * 3 * STATUS_BYTES)
    assert write_padded(file, b"one")
    assert file.read_bytes().split() == [b"one"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# für: a secret, a secret\nb: 1", "# für:         ,         \nb: 1"),
        ('# a secret\r\nb: "a secret"', '#         \r\nb: "a secret"'),
        ("b: 1  # a secret", "b: 1  #         "),
        ('b: "x # a secret"', 'b: "x # a secret"'),
        ("b: |\n  # a secret\n", "b: |\n  # a secret\n"),
        ("b: 1", "b: 1"),
        ("b: [ # a secret", "b: [ # a secret"),
    ],
)
def test_a_secret_goes_from_comments_and_from_nothing_else(text: str, left: str, encoding: str) -> None:
    site = SiteText.decoded(text.encode(encoding))
    raw = bytearray(site.encoded(text))
    for write in writes_without_in_comments(site, "a secret"):
        raw[write.offset : write.offset + len(write.data)] = write.data
    assert SiteText.decoded(bytes(raw)).text == left
