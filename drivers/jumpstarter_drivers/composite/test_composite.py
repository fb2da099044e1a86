"""Groups and second names end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from jumpstarter_client.errors import DriverError
from jumpstarter_exporter.config import ConfigError, build, load
from jumpstarter_exporter.session.tree import TreeError

from jumpstarter_drivers.composite.client import CompositeClient
from jumpstarter_drivers.composite.driver import Composite, Proxy
from jumpstarter_drivers.network.driver import EchoNetwork
from jumpstarter_drivers.power.client import PowerClient
from jumpstarter_drivers.power.driver import GpioRelay, MockPower
from jumpstarter_drivers.testing import serve


def lab() -> Composite:
    rpi4 = Composite(children={"power": MockPower(), "echo": EchoNetwork()})
    return Composite(children={"rpi4": rpi4, "main": Proxy(ref="rpi4.power"), "same": Proxy(ref="rpi4")})


def test_children_are_attributes() -> None:
    with serve(lab()) as client:
        assert isinstance(client, CompositeClient)
        assert isinstance(client.rpi4, CompositeClient)
        assert isinstance(client.rpi4.power, PowerClient)
        assert client.rpi4.children["power"] is client.rpi4.power
        assert client.rpi4.power.path == "rpi4.power"
        client.rpi4.power.on()
        with client.rpi4.echo.stream() as stream:
            stream.send(b"hello")
            assert stream.receive() == b"hello"


def test_child_that_is_not_there_is_named_among_those_that_are() -> None:
    with serve(lab()) as client, pytest.raises(AttributeError, match=r"'serial'.*power, echo"):
        _ = client.rpi4.serial


def test_second_name_is_the_same_device() -> None:
    with serve(lab()) as client:
        assert client.main.uuid == client.rpi4.power.uuid
        assert client.same.power.uuid == client.rpi4.power.uuid
        assert client.main.name == "main"
        client.main.cycle(wait=0)
        assert len(list(client.same.power.read())) == 2


def test_child_that_is_missing_leaves_its_neighbours_alone() -> None:
    broken = GpioRelay(pin=99, pin_factory="mock")
    with serve(Composite(children={"broken": broken, "power": MockPower()})) as client:
        with pytest.raises(DriverError, match="no GPIO pin 99"):
            client.broken.on()
        client.power.on()


@pytest.mark.parametrize(
    ("children", "ref"), [({}, "nobody"), ({"a": Composite(), "b": Proxy(ref="ref")}, "b"), ({}, "ref")]
)
def test_ref_that_leads_nowhere_is_refused(children: dict[str, Composite | Proxy], ref: str) -> None:
    with (
        pytest.raises(TreeError, match="ref"),
        serve(Composite(children={**children, "ref": Proxy(ref=ref)})),
    ):
        pass


def test_ref_to_nothing_is_an_error_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text("export:\n  console:\n    ref: rpi4.serial\n")
    with pytest.raises(ConfigError, match=r"export\.console"):
        build(load(file))
