"""What configured devices are told of what is plugged in, and what becomes of the calls that need it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import trio

from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.device_state import State
from jumpstarter_exporter.devices.inventory import BoardDevices
from jumpstarter_exporter.devices.presence import DevicePresence
from jumpstarter_exporter.devices.slot import Slot
from jumpstarter_exporter.devices.spec import Spec
from jumpstarter_exporter.devices.udev_device import DeviceTree, UdevDevice
from jumpstarter_exporter.driver import DeviceMissing, Driver, export
from jumpstarter_exporter.session import dispatch
from jumpstarter_exporter.session.session import Session
from tools.mocked_host.udev import Host

BY_ID = "/dev/serial/by-id/usb-0403_FT232R_USB_UART_A50285BJ-if00-port0"
NOON = datetime.datetime(2026, 11, 29, 12, 0, 1, tzinfo=datetime.UTC)


@dataclass(kw_only=True, eq=False)
class Adapter(Driver):
    client: ClassVar[str] = "example.Client"

    url: str
    opened: list[str] = field(default_factory=list)
    working: trio.Event = field(default_factory=trio.Event, init=False)

    @classmethod
    def host_nodes(cls, values: Mapping[str, Any]) -> Sequence[str]:
        return [values["url"]]

    async def open(self) -> None:
        self.opened.append(self.url)

    @export
    async def work(self) -> None:
        self.working.set()
        await trio.sleep_forever()

    @export
    def fail(self) -> None:
        self.lifecycle.unplugged("unplugged meanwhile")
        raise OSError(19, "No such device")

    @export(reads=True)
    async def watch(self) -> AsyncGenerator[int, None]:
        yield 1
        await trio.sleep_forever()


class PatientAdapter(Adapter):
    waits_for_hardware: ClassVar[bool] = True


@dataclass(kw_only=True, eq=False)
class SlowAdapter(Adapter):
    opening: trio.Event = field(default_factory=trio.Event, init=False)
    may_open: trio.Event = field(default_factory=trio.Event, init=False)

    async def open(self) -> None:
        self.opening.set()
        await self.may_open.wait()
        await super().open()


class SlowPatientAdapter(SlowAdapter):
    waits_for_hardware: ClassVar[bool] = True


def adapters(*models: tuple[str, str, str], number: int = 0) -> DeviceTree:
    """A host with serial adapters, whose nodes are numbered from there."""
    host = Host(_numbers={"ttyUSB": number - 1})
    (root,) = host.controller("/devices/pci0000:00/0000:00:14.0", 1, 2)
    for port, (ids, serial, model) in enumerate(models, 1):
        host.tty(host.plug(root, port, ids, serial, model))
    return host.tree


FTDI = ("0403:6001", "A50285BJ", "FT232R USB UART")
NOTHING = adapters()


class Lab:
    """One board with a device of that name for a node of the host."""

    def __init__(
        self, url: str, kind: type[Adapter] = Adapter, links: Mapping[str, str] | None = None
    ) -> None:
        self.devices = BoardDevices("lab", Spec(Composite, children={"dev": Spec(kind, {"url": url})}))
        self.presence = DevicePresence(lambda name: (links or {}).get(name, name))

    @property
    def slot(self) -> Slot:
        return self.devices.slots["dev"]

    def see(self, tree: DeviceTree, *, told: bool = True) -> None:
        self.presence.update(tree, [self.devices], now=NOON, told=told)


@pytest.mark.parametrize("url", ["/dev/ttyUSB0", BY_ID])
async def test_a_device_that_is_unplugged_is_missing_and_says_when(url: str) -> None:
    lab = Lab(url)
    lab.see(adapters(FTDI))
    assert lab.slot.state is State.READY
    lab.see(NOTHING)
    assert (lab.slot.state, lab.slot.reason) == (
        State.MISSING,
        f"{url} was unplugged at 12:00:01; plug it in again",
    )
    came = lab.slot.came
    lab.see(adapters(FTDI))
    assert lab.slot.state is State.READY
    assert came.is_set()


async def test_one_that_comes_back_with_another_number_is_there_by_its_link() -> None:
    lab = Lab(BY_ID)
    lab.see(adapters(FTDI))
    came = lab.slot.came
    lab.see(adapters(FTDI, number=1))
    assert lab.slot.state is State.READY
    assert came.is_set()


async def test_what_was_never_there_is_not_said_to_be_unplugged_and_is_told_when_it_comes() -> None:
    lab = Lab(BY_ID)
    lab.see(NOTHING)
    assert lab.slot.state is State.READY
    came = lab.slot.came
    lab.slot.lifecycle.missing("there is none")
    lab.see(adapters(FTDI))
    assert came.is_set()
    assert lab.slot.state is State.READY


@pytest.mark.parametrize("url", ["/dev/tty\0", 5, ["/dev/ttyUSB0"]])
async def test_what_is_not_a_name_of_a_node_is_followed_by_nobody_and_the_boards_neighbours_are(
    url: Any,
) -> None:
    children = {"wrong": Spec(Adapter, {"url": url}), "dev": Spec(Adapter, {"url": BY_ID})}
    devices = BoardDevices("lab", Spec(Composite, children=children))
    presence = DevicePresence()
    for tree in (adapters(FTDI), NOTHING):
        presence.update(tree, [devices], now=NOON, told=True)
    assert devices.slots["dev"].state is State.MISSING
    assert not devices.slots["wrong"].is_followed


async def test_a_link_of_the_admins_is_followed_to_where_it_leads() -> None:
    links = {"/home/ann/console": "/dev/ttyUSB0"}
    lab = Lab("/home/ann/console", links=links)
    lab.see(adapters(FTDI))
    links.clear()
    lab.see(NOTHING)
    assert lab.slot.is_followed
    assert lab.slot.reason == "/home/ann/console was unplugged at 12:00:01; plug it in again"


@pytest.mark.parametrize(
    ("url", "is_followed"),
    [("/dev/ttyUSB7", True), (BY_ID, True), ("/dev/pts/3", False), ("/srv/console", False)],
)
async def test_only_what_udev_tells_of_is_not_looked_for(url: str, is_followed: bool) -> None:
    lab = Lab(url)
    lab.see(adapters(("1a86:7523", "", "USB Serial")))
    assert lab.slot.is_followed is is_followed
    lab.see(NOTHING, told=False)
    assert not lab.slot.is_followed


async def test_what_is_there_and_cannot_be_opened_is_looked_for_as_it_comes_no_more() -> None:
    lab = Lab(BY_ID)
    lab.see(NOTHING)
    lab.see(adapters(FTDI))
    lab.slot.lifecycle.core.missing("the other end hung up")
    announced = [lab.slot.is_announced]
    lab.see(NOTHING)
    announced.append(lab.slot.is_announced)
    lab.slot.appeared()
    announced.append(lab.slot.is_followed)
    assert announced == [False, True, False]


async def test_links_are_looked_for_where_no_udevd_makes_them() -> None:
    lab = Lab(BY_ID)
    bare = [
        replace(one, properties={key: value for key, value in one.properties.items() if key != "DEVLINKS"})
        for one in adapters(FTDI)
    ]
    lab.see(DeviceTree(bare))
    assert not lab.slot.is_followed


async def test_a_device_that_was_replugged_so_fast_that_nobody_saw_it_gone_is_told_to_come() -> None:
    lab = Lab("/dev/ttyUSB0")
    lab.see(adapters(FTDI))
    came = lab.slot.came
    lab.see(adapters(FTDI))  # the same, in new records
    assert came.is_set()


async def test_one_that_did_not_change_is_not_told_to_come() -> None:
    lab = Lab("/dev/ttyUSB0")
    tree = adapters(FTDI)
    came = lab.slot.came
    lab.see(tree)
    lab.see(DeviceTree([*tree, UdevDevice("/devices/other")]))
    assert not came.is_set()


async def test_a_call_ends_when_its_device_is_unplugged_and_the_next_opens_it_anew() -> None:
    lab = Lab("/dev/ttyUSB0")
    lab.see(adapters(FTDI))
    async with Session(lab.devices, name="lab") as session:
        node = session.node(str(lab.slot.uuid))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_missing, node, "work")
            assert isinstance(node.driver, Adapter)
            await node.driver.working.wait()
            lab.see(NOTHING)
        with pytest.raises(DeviceMissing, match="unplugged at 12:00:01"):
            await dispatch.call(node, "work", [])
        lab.see(adapters(FTDI))
        await node.open()
        driver = node.driver
        assert isinstance(driver, Adapter)
        assert driver.opened == ["/dev/ttyUSB0"] * 2


async def test_a_device_that_vanishes_while_it_is_opened_is_opened_no_further_and_anew_when_it_is_back() -> (
    None
):
    lab = Lab("/dev/ttyUSB0", SlowAdapter)
    lab.see(adapters(FTDI))
    async with Session(lab.devices, name="lab") as session:
        node = session.node(str(lab.slot.uuid))
        assert isinstance(node.driver, SlowAdapter)
        with trio.fail_after(10):  # long before the end of the time that a driver has to open
            async with trio.open_nursery() as nursery:
                for _ in range(2):  # the second waits for the first
                    nursery.start_soon(fails_missing, node, "work")
                await node.driver.opening.wait()
                await trio.testing.wait_all_tasks_blocked()
                lab.see(NOTHING)
        assert (lab.slot.state, lab.slot.reason.startswith("/dev/ttyUSB0 was unplugged")) == (
            State.MISSING,
            True,
        )
        lab.see(adapters(FTDI))
        node.driver.may_open.set()
        await node.open()
        assert node.driver.opened == ["/dev/ttyUSB0"]


async def test_one_that_waits_for_its_hardware_goes_on_being_opened_without_it() -> None:
    lab = Lab("/dev/ttyUSB0", SlowPatientAdapter)
    lab.see(adapters(FTDI))
    async with Session(lab.devices, name="lab") as session:
        node = session.node(str(lab.slot.uuid))
        assert isinstance(node.driver, SlowAdapter)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.open)
            await node.driver.opening.wait()
            lab.see(NOTHING)
            await trio.testing.wait_all_tasks_blocked()
            node.driver.may_open.set()
        assert node.driver.opened == ["/dev/ttyUSB0"]


async def fails_missing(node: Any, name: str) -> None:
    with pytest.raises(DeviceMissing, match="dev is not there: /dev/ttyUSB0 was unplugged at 12:00:01"):
        await dispatch.call(node, name, [])


async def test_what_fails_because_the_device_went_says_so() -> None:
    lab = Lab("/dev/ttyUSB0")
    lab.see(adapters(FTDI))
    async with Session(lab.devices, name="lab") as session:
        with pytest.raises(DeviceMissing, match="dev is not there: unplugged meanwhile"):
            await dispatch.call(session.node(str(lab.slot.uuid)), "fail", [])


async def test_who_only_watches_a_device_that_waits_for_its_hardware_goes_on() -> None:
    lab = Lab("/dev/ttyUSB0", PatientAdapter)
    lab.see(adapters(FTDI))
    seen = trio.Event()

    async def send(value: object) -> None:
        seen.set()

    async with Session(lab.devices, name="lab") as session:
        node = session.node(str(lab.slot.uuid))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatch.stream_results, node, "watch", [], send)
            await seen.wait()
            lab.see(NOTHING)
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            nursery.cancel_scope.cancel()
        assert node.is_open
