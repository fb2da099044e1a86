"""Which of a client's leases a name, no name, or a request for a board means."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from jumpstarter_proto.rpc import RpcError

from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease import own_leases
from jumpstarter_client.lease.conftest import FakeController
from jumpstarter_client.lease.own_leases import (
    SeveralLeasesError,
    find_lease,
    record_created,
    with_own_lease,
)
from jumpstarter_client.lease.request import LeaseRequest

RPI4 = LeaseRequest(selector="board=rpi4", may_reuse=True)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "jumpstarter" / "leases"


FIRST = "0194f3c2-0000-7000-8000-0000aaaa0001"
SECOND = "0194f3c2-0000-7000-8000-0000bbbb0001"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (FIRST, FIRST),
        ("aaaa0001", FIRST),
        ("0194f3c2-", SeveralLeasesError),
        ("001", RpcError),
        ("cccc0001", RpcError),
        ("job-10", "job-10"),
        ("job-1", RpcError),
        ("bobs", "bobs"),
    ],
)
async def test_a_part_of_a_generated_name_means_a_lease_of_ones_own(
    lab: FakeController, config: ClientConfig, given: str, found: str | type[Exception]
) -> None:
    for name in (FIRST, SECOND, "job-10"):
        lab.add(name)
    lab.add("bobs", "bob")
    lab.add("0194f3c2-0000-7000-8000-0000cccc0001", "bob")
    controller = ControllerClient(config)
    async with controller.open() as calls:
        if isinstance(found, str):
            assert (await find_lease(calls, controller.own_name, given)).name.endswith(f"/{found}")
        else:
            with pytest.raises(found):
                await find_lease(calls, controller.own_name, given)


async def _chosen(config: ClientConfig, request: LeaseRequest = RPI4) -> tuple[str, list[str]]:
    said: list[str] = []
    return (await with_own_lease(config, request, said.append)).lease, said


async def test_a_recorded_lease_that_fits_is_used_and_said(lab: FakeController, config: ClientConfig) -> None:
    lab.add("mine")
    assert await _chosen(config) == ("", []), "another command may have created it"
    record_created(config, "mine")
    name, said = await _chosen(config)
    assert name == "mine"
    assert re.fullmatch(
        r"using your lease mine of one, which ends in \w+; to lease another board: --new", said[0]
    )
    assert (await _chosen(config, LeaseRequest(exporter="one", may_reuse=True)))[0] == "mine"


@pytest.mark.parametrize(
    "request_",
    [replace(RPI4, selector="board=x"), replace(RPI4, exporter="two"), replace(RPI4, may_reuse=False)],
)
async def test_what_does_not_fit_or_was_not_allowed_is_not_used(
    lab: FakeController, config: ClientConfig, request_: LeaseRequest
) -> None:
    lab.add("mine")
    record_created(config, "mine")
    assert await _chosen(config, request_) == ("", [])


async def test_neither_the_leases_of_others_nor_those_that_wait_or_ended_are_used(
    lab: FakeController, config: ClientConfig
) -> None:
    for name in ("bobs", "ended", "waiting"):
        record_created(config, name)
    record_created(replace(config, endpoint="elsewhere:1"), "mine")
    lab.add("bobs", "bob")
    lab.add("mine")
    lab.add("ended")
    lab.end("ended", "released")
    lab.is_ready = False
    lab.add("waiting")
    assert await _chosen(config) == ("", [])


async def test_of_several_that_fit_the_user_chooses(lab: FakeController, config: ClientConfig) -> None:
    for name in ("mine", "other"):
        lab.add(name)
        record_created(config, name)
    with pytest.raises(
        SeveralLeasesError, match=r"choose one with --lease, .*: mine \(one\), other \(one\)$"
    ):
        await _chosen(config)


async def test_without_a_request_for_a_board_the_only_recorded_lease_is_used(
    lab: FakeController, config: ClientConfig
) -> None:
    anything = LeaseRequest(may_reuse=True)
    lab.add("mine")
    assert await _chosen(config, anything) == ("", [])
    record_created(config, "mine")
    name, said = await _chosen(config, anything)
    assert name == "mine"
    assert said[0].endswith("; to lease another board: -l SELECTOR")
    assert await _chosen(config, replace(anything, lease="named")) == ("named", [])
    lab.add("other")
    record_created(config, "other")
    with pytest.raises(SeveralLeasesError, match=r"choose one with --lease: mine \(one\), other \(one\)$"):
        await _chosen(config, anything)


async def test_a_controller_is_not_asked_for_nothing(lab: FakeController, config: ClientConfig) -> None:
    await _chosen(config)
    assert lab.asked == []


@pytest.mark.parametrize("content", [b"", b"\xff\n \n\n", b"x" * 200_000, b"a b c d\n"])
def test_a_record_of_any_content_is_replaced(
    config: ClientConfig, state: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_leases, "MAX_RECORDED", 5)
    state.parent.mkdir()
    state.write_bytes(content)
    for number in range(10):
        record_created(config, f"lease-{number}")
    lines = state.read_text().splitlines()
    assert len(lines) == 5
    assert lines[-1].endswith(" lease-9")
    assert state.stat().st_mode & 0o777 == 0o600


def test_leases_that_are_created_at_the_same_time_are_all_recorded(
    config: ClientConfig, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2)

    def read_together(path: Path) -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.1)
        return lines

    monkeypatch.setattr(own_leases, "_read_lines", read_together)
    threads = [threading.Thread(target=record_created, args=(config, name)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {line.rpartition(" ")[2] for line in state.read_text().splitlines()} == {"one", "two"}


def test_a_record_that_cannot_be_written_keeps_nobody_from_a_lease(config: ClientConfig, state: Path) -> None:
    state.parent.parent.joinpath("jumpstarter").write_text("a file")
    record_created(config, "mine")
