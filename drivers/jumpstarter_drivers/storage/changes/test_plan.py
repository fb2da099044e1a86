"""Whatever the board writes, and wherever the plug is pulled: after a flash the medium is the image."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jumpstarter_drivers.storage.changes.knowledge import MediumKnowledge, WriteEvidence
from jumpstarter_drivers.storage.changes.layout import BlockHasher, Layout, WindowHashes
from jumpstarter_drivers.storage.changes.plan import (
    Counts,
    FlashPlan,
    ImageChanged,
    PlanError,
    Read,
    ReadPolicy,
    WindowAnswer,
)

LAYOUT = Layout(block_bytes=4, window_blocks=4)
SIZE = 8 * LAYOUT.window_bytes
AHEAD = 3


class PlugPulledError(Exception):
    """The host, the exporter or the connection is gone."""


@dataclass
class Card:
    """A medium with a cache, which has lost some of what was not flushed when the power comes back."""

    stable: bytearray
    cached: list[tuple[int, bytes]] = field(default_factory=list)
    writes: int = 0
    hold: int = 0
    is_counted: bool = True
    """Whether the kernel counts writes, as it does for devices; of a file it tells who opens it."""

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(self.stable)
        for at, piece in self.cached:
            data[at : at + len(piece)] = piece
        return bytes(data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.cached.append((offset, data))
        self.writes += 1

    def flush(self) -> None:
        self.stable[:] = self.read(0, len(self.stable))
        self.cached.clear()

    def lose_power(self, chance: random.Random) -> None:
        """Of what was not flushed any part may be there, in any order, and blocks may be torn."""
        self.cached = [
            (at, piece[: chance.randint(0, len(piece))]) for at, piece in self.cached if chance.random() < 0.5
        ]
        chance.shuffle(self.cached)
        self.flush()

    def evidence(self) -> WriteEvidence:
        return WriteEvidence(self.hold, 1, (self.writes,) if self.is_counted else ())


@dataclass
class Exporter:
    """What lives as long as a session."""

    hasher: BlockHasher = field(default_factory=lambda: BlockHasher(b"k" * 16, LAYOUT))
    knowledge: MediumKnowledge = field(default_factory=MediumKnowledge)


def windows_of(image: bytes, mapped: list[int], hasher: BlockHasher) -> deque[WindowHashes]:
    """What a client announces: all windows with a mapped block."""
    found: deque[WindowHashes] = deque()
    for index, start in enumerate(range(0, len(image), LAYOUT.window_bytes)):
        data = image[start : start + LAYOUT.window_bytes]
        mask = mapped[index] & LAYOUT.everything(len(data))
        pieces = [data[at : at + count] for at, count in LAYOUT.runs(mask, len(data))]
        if mask:
            found.append(WindowHashes(index, len(data), mask, hasher.hash(b"".join(pieces))))
    return found


def flash(
    card: Card,
    image: bytes,
    exporter: Exporter,
    *,
    chance: random.Random | None = None,
    mapped: list[int] | None = None,
    pull_at: int | None = None,
    verify: bool = True,
    beside: Callable[[], None] = lambda: None,
) -> Counts:
    """One flash as the exporter does it, in some order; the plug is pulled before write number `pull_at`.

    `beside` is what somebody else does before its end.
    """
    chance = chance or random.Random(0)
    left, own = pull_at, 0

    def write(offset: int, data: bytes) -> None:
        nonlocal left, own
        for at in range(0, len(data), LAYOUT.block_bytes):
            if left is not None:
                left -= 1
                if left < 0:
                    raise PlugPulledError
            card.write(offset + at, data[at : at + LAYOUT.block_bytes])
            own += 1

    def announced_data(window: WindowHashes, mask: int) -> bytes:
        start = window.index * LAYOUT.window_bytes
        runs = LAYOUT.runs(mask, window.length)
        return b"".join(image[start + at : start + at + count] for at, count in runs)

    exporter.knowledge.confirm(card.evidence())
    plan = FlashPlan(exporter.hasher, exporter.knowledge, limit=SIZE, ahead=AHEAD, too_large=ValueError)
    todo = windows_of(image, mapped or [LAYOUT.everything(16)] * 8, exporter.hasher)
    reading: list[WindowHashes] = []
    asked: list[WindowAnswer] = []

    def answer(step: WindowAnswer) -> None:
        for offset, length in plan.places_of_zeros(step) if step.zeros else ():
            write(offset, bytes(length))
        if step.wanted:
            asked.append(step)
        elif step.zeros:
            plan.written(step.window.index)

    while todo or plan.open_windows:
        do = chance.choice(["announce", "step", "read", "send"])
        if do == "announce" and todo and plan.open_windows < AHEAD:
            plan.announce(todo.popleft())
        elif do == "step":
            match plan.next_step():
                case Read(window):
                    reading.append(window)
                case WindowAnswer() as step:
                    answer(step)
        elif do == "read" and reading:
            window = reading.pop(chance.randrange(len(reading)))
            start = window.index * LAYOUT.window_bytes
            runs = LAYOUT.runs(window.mapped, window.length)
            found = b"".join(card.read(start + at, count) for at, count in runs)
            answer(plan.read(window.index, exporter.hasher.hash(found)))
        elif do == "send" and asked:
            step = asked.pop(chance.randrange(len(asked)))
            data = announced_data(step.window, step.wanted)
            assert len(data) == plan.asked_bytes(step.window.index)
            for offset, taken, length in plan.arrived(step.window.index, exporter.hasher.hash(data)):
                write(offset, data[taken : taken + length])
            plan.written(step.window.index)
    plan.end(len(image))
    card.flush()
    for written in plan.verify_steps() if verify else ():
        start = written.index * LAYOUT.window_bytes
        runs = LAYOUT.runs(written.mask, written.length)
        back = b"".join(card.read(start + at, count) for at, count in runs)
        assert plan.verified(written, exporter.hasher.hash(back))
    beside()
    exporter.knowledge.settle(card.evidence(), own)
    assert plan.counts.done == plan.counts.skipped + plan.counts.unmapped + plan.counts.written == len(image)
    return plan.counts


def content(image: bytes, card: Card, mapped: list[int]) -> bytes:
    """The card's, with the image's own where it does not matter."""
    data = bytearray(image)
    for index, start in enumerate(range(0, len(image), LAYOUT.window_bytes)):
        length = min(LAYOUT.window_bytes, len(image) - start)
        for at, count in LAYOUT.runs(mapped[index] & LAYOUT.everything(length), length):
            data[start + at : start + at + count] = card.stable[start + at : start + at + count]
    return bytes(data)


few = st.integers(0, 2)
"""A byte of few kinds, so that blocks are the same by chance, and zeros are frequent."""
images = st.lists(
    st.lists(few.map(lambda byte: bytes([byte]) * 4), min_size=1, max_size=32), min_size=1, max_size=2
)
masks = st.lists(st.integers(0, 15), min_size=8, max_size=8)
somewhere = st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=40)), max_size=4)
events = st.one_of(
    st.tuples(st.just("flash"), few, st.none() | st.integers(0, 20), st.integers(0, 1 << 16), st.booleans()),
    st.tuples(st.just("board"), somewhere),
    st.tuples(st.just("host"), somewhere),
    st.tuples(st.just("restart"), few),
)


@settings(max_examples=300, deadline=None)
@given(
    made=images,
    masks=st.none() | masks,
    before=st.binary(min_size=SIZE, max_size=SIZE),
    happens=st.lists(events, max_size=10),
    cut_and_seed=st.tuples(st.integers(0, 3), st.integers(0, 1 << 16)),
)
def test_the_medium_is_the_image(
    made: list[list[bytes]],
    masks: list[int] | None,
    before: bytes,
    happens: list[tuple[object, ...]],
    cut_and_seed: tuple[int, int],
) -> None:
    cut, last_seed = cut_and_seed
    whole = [b"".join(blocks) for blocks in made]
    whole = [image[: len(image) - cut] for image in whole]
    mapped = masks or [LAYOUT.everything(16)] * 8
    card, exporter = Card(bytearray(before), is_counted=bool(last_seed % 2)), Exporter()
    for event in [*happens, ("flash", 0, None, last_seed, True)]:
        match event:
            case ("flash", int(number), pull_at, int(seed), bool(verify)):
                image, chance = whole[number % len(whole)], random.Random(seed)
                assert pull_at is None or isinstance(pull_at, int)
                try:
                    flash(
                        card,
                        image,
                        exporter,
                        chance=chance,
                        mapped=mapped,
                        pull_at=pull_at,
                        verify=verify,
                    )
                except PlugPulledError:
                    if chance.random() < 0.5:  # the host, and not only the connection
                        card.lose_power(chance)
                        exporter = Exporter()
                else:
                    assert content(image, card, mapped) == image
            case ("board", list(written)):
                card.hold += 1
                _write(card, written)
            case ("host", list(written)):
                card.hold += not card.is_counted  # it was opened
                _write(card, written)
            case ("restart", _):
                card.hold += 1
                exporter = Exporter()


def _write(card: Card, written: list[tuple[int, bytes]]) -> None:
    for offset, data in written:
        card.write(offset, data[: SIZE - offset])
    card.flush()


IMAGE = random.Random(1).randbytes(SIZE)


def test_the_same_image_again_is_neither_read_nor_written_while_nobody_can_have_written() -> None:
    card, exporter = Card(bytearray(SIZE)), Exporter()
    first = flash(card, IMAGE, exporter)
    assert first.written == SIZE
    again = flash(card, IMAGE, exporter)
    assert (again.read, again.written, again.skipped) == (0, 0, SIZE)


@pytest.mark.parametrize("who", ["board", "host", "verification left out"])
def test_in_doubt_all_is_read_again(who: str) -> None:
    card, exporter = Card(bytearray(SIZE)), Exporter()
    flash(card, IMAGE, exporter)
    if who == "board":
        card.hold += 1
    elif who == "host":
        card.writes += 1
    else:
        exporter.knowledge.settle(None, 0)
    again = flash(card, IMAGE, exporter)
    assert (again.read, again.written) == (SIZE, 0)


@pytest.mark.parametrize("written", [0, 3])
def test_what_somebody_else_wrote_during_the_flash_is_found(written: int) -> None:
    card, exporter = Card(bytearray(SIZE)), Exporter()
    flash(card, IMAGE, exporter)
    changed = bytearray(IMAGE)
    for place in range(written):
        changed[place * LAYOUT.window_bytes] ^= 1
    flash(card, bytes(changed), exporter, beside=lambda: _write(card, [(5, b"theirs")]))
    assert flash(card, bytes(changed), exporter).read == SIZE
    assert card.stable == changed


def test_only_what_differs_is_asked_for() -> None:
    card, exporter = Card(bytearray(IMAGE)), Exporter()
    for place in (5, 50, 51):
        card.stable[place] ^= 1
    counts = flash(card, IMAGE, exporter)
    assert (counts.read, counts.written) == (SIZE, 2 * LAYOUT.block_bytes)


def test_a_card_with_something_else_is_soon_not_read_any_more() -> None:
    policy, read = ReadPolicy(), 0
    for _ in range(1000):
        if policy.pays():
            read += 1
            policy.found(0, 1024)
    assert read <= 3 + 1000 // ReadPolicy.SAMPLE_INTERVAL_WINDOWS


def test_reading_pays_again_once_a_sample_is_the_same() -> None:
    policy = ReadPolicy()
    while policy.pays():
        policy.found(0, 1024)
    while not policy.pays():
        pass
    policy.found(1024, 1024)
    assert all(policy.pays() for _ in range(10))


def plan() -> tuple[FlashPlan, BlockHasher]:
    hasher = BlockHasher(b"k" * 16, LAYOUT)
    return FlashPlan(hasher, MediumKnowledge(), limit=SIZE, ahead=AHEAD, too_large=ValueError), hasher


def window(index: int, length: int = 16, mapped: int | None = None, count: int | None = None) -> WindowHashes:
    mask = LAYOUT.everything(length) if mapped is None else mapped
    return WindowHashes(index, length, mask, bytes(16 * (mask.bit_count() if count is None else count)))


@pytest.mark.parametrize(
    ("announced", "words"),
    [
        ([window(1), window(1)], "out of order"),
        ([window(1), window(0)], "out of order"),
        ([window(0, 15), window(1)], "out of order"),
        ([window(0, 0)], "0 bytes"),
        ([window(0, 17)], "17 bytes"),
        ([window(0, 8, mapped=0b111)], "behind a window's end"),
        ([window(0, count=3)], "another number"),
        ([window(n) for n in range(AHEAD + 1)], f"more than {AHEAD}"),
    ],
)
def test_what_a_client_announces_wrongly_is_refused(announced: list[WindowHashes], words: str) -> None:
    begun, _ = plan()
    *before, last = announced
    for one in before:
        begun.announce(one)
    with pytest.raises(PlanError, match=words):
        begun.announce(last)


def test_an_image_behind_the_end_of_the_medium_is_too_large() -> None:
    begun, _ = plan()
    with pytest.raises(ValueError, match=str(9 * LAYOUT.window_bytes)):
        begun.announce(window(8))
    with pytest.raises(ValueError, match=str(SIZE + 1)):
        begun.end(SIZE + 1)


def test_blocks_that_nobody_asked_for_are_refused() -> None:
    begun, _ = plan()
    with pytest.raises(PlanError, match="was not asked for"):
        begun.asked_bytes(0)
    with pytest.raises(PlanError, match="was not asked for"):
        begun.arrived(0, b"")


def test_blocks_that_are_not_what_was_announced_are_not_written() -> None:
    begun, hasher = plan()
    begun.announce(WindowHashes(0, 16, 15, hasher.hash(IMAGE[:16])))
    assert isinstance(begun.next_step(), Read)
    begun.read(0, b"")
    with pytest.raises(ImageChanged, match="changed meanwhile"):
        begun.arrived(0, hasher.hash(IMAGE[16:32]))


def test_what_is_read_back_has_to_be_what_was_announced() -> None:
    begun, hasher = plan()
    begun.announce(WindowHashes(0, 16, 15, hasher.hash(IMAGE[:16])))
    begun.next_step()
    begun.read(0, b"")
    list(begun.arrived(0, hasher.hash(IMAGE[:16])))
    begun.written(0)
    (written,) = begun.verify_steps()
    assert not begun.verified(written, hasher.hash(IMAGE[16:32]))
    assert begun.verified(written, hasher.hash(IMAGE[:16]))


def test_the_end_before_all_is_sent_is_refused() -> None:
    begun, _ = plan()
    begun.announce(window(0))
    with pytest.raises(PlanError, match="ended before"):
        begun.end(16)


def test_a_size_that_does_not_fit_what_was_announced_is_refused() -> None:
    begun, hasher = plan()
    begun.announce(WindowHashes(0, 16, 15, hasher.hash(IMAGE[:16])))
    begun.next_step()
    begun.read(0, hasher.hash(IMAGE[:16]))
    with pytest.raises(PlanError, match="has 15"):
        begun.end(15)
    begun.end(16)
    with pytest.raises(PlanError, match="out of order"):
        begun.announce(window(1))
