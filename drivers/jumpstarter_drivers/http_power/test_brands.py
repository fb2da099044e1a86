"""Each brand of the table against what answers as it does: switched, asked, refused."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from jumpstarter_client.errors import DriverError

from jumpstarter_drivers.http_power import device_table
from jumpstarter_drivers.http_power.device_table import DEVICES
from jumpstarter_drivers.http_power.driver import EnerGenie, HttpOutlet
from jumpstarter_drivers.power.client import PowerReading
from jumpstarter_drivers.testing import serve
from tests.support.web_outlet_brands import BRANDS
from tests.support.web_outlets import WebOutlets, serve_outlets

PASSWORD = "c0rrect"
USER = "lab"


def outlet(device: WebOutlets, kind: str, number: int, **config: Any) -> HttpOutlet:
    _, names, login = BRANDS[kind]
    if login:
        config = {"user": USER, "password": PASSWORD, **config}
    name: Any = names.format(number)
    return HttpOutlet(
        device=kind,
        host=device.address,
        outlet=int(name) if name.isdigit() else name,
        **{"timeout": 4.0, **config},
    )


def served(kind: str) -> Any:
    model, _, login = BRANDS[kind]
    return serve_outlets(model, outlets=4, login=login, user=USER, password=PASSWORD)


def test_every_brand_is_tested() -> None:
    assert set(DEVICES) - {"shelly", "shelly-gen1", "tasmota"} == set(BRANDS)


def test_a_brand_is_a_row_of_at_most_fifteen_lines() -> None:
    rows = re.split(r'^    (?="[\w-]+": HttpDevice\()', inspect.getsource(device_table), flags=re.MULTILINE)[
        1:
    ]
    assert len(rows) == len(DEVICES)
    last = rows.pop().partition("\n}\n")[0]
    lengths = {row.partition(":")[0]: row.count("\n") for row in [*rows, last + "\n"]}
    assert {name: lines for name, lines in lengths.items() if lines > 15} == {}


@pytest.mark.parametrize("kind", BRANDS)
@pytest.mark.parametrize("number", [1, 3])
def test_an_outlet_is_switched_and_no_other_one(kind: str, number: int) -> None:
    with served(kind) as device, serve(outlet(device, kind, number)) as client:
        device.is_on[4] = True
        client.on()
        assert device.is_on == {n: n in (number, 4) for n in (1, 2, 3, 4)}
        client.off()
        assert device.is_on == {1: False, 2: False, 3: False, 4: True}
        assert device.session is None  # nobody stays logged in


@pytest.mark.parametrize("kind", BRANDS)
def test_a_device_that_lies_is_found_out(kind: str) -> None:
    with served(kind) as device, serve(outlet(device, kind, 2, timeout=1.5)) as client:
        device.stuck = {2}
        with pytest.raises(DriverError, match=r"outlet .*2 of .* says that it is off, 1.5 s after"):
            client.on()


@pytest.mark.parametrize("kind", BRANDS)
def test_an_outlet_that_does_not_exist_is_one_sentence(kind: str) -> None:
    with served(kind) as device, serve(outlet(device, kind, 9, timeout=1.5)) as client:
        with pytest.raises(DriverError, match=r"outlet .*9 of the .*; ") as caught:
            client.on()
        assert device.is_on == dict.fromkeys((1, 2, 3, 4), False)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind, (_, _, login) in BRANDS.items() if login])
def test_a_wrong_password_is_one_sentence_without_it(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with served(kind) as device, serve(outlet(device, kind, 1, password="h7-wr0ng", timeout=1.5)) as client:
        with pytest.raises(DriverError, match=r"password|redirects .* to /login.cgi") as caught:
            client.on()
        assert not any(device.is_on.values())
    assert "h7-wr0ng" not in f"{caught.value} {caplog.text}"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("netio", PowerReading(231.5, 0.13, 12.5, 42.0)),
        ("mfi", PowerReading(231.5, 0.13, 12.5)),
        ("openwrt-poe", PowerReading(power=12.5, measured=())),
    ],
)
def test_a_brand_with_a_meter_measures(kind: str, expected: PowerReading) -> None:
    with served(kind) as device, serve(outlet(device, kind, 2)) as client:
        device.watts = 12.5
        assert list(client.read()) == [expected]


@pytest.mark.parametrize("kind", ["esphome", "home-assistant", "openwrt-poe"])
def test_an_outlet_with_a_name_has_to_be_named(kind: str) -> None:
    with pytest.raises(ValueError, match=r"outlet is missing; the .* has names for its outlets"):
        HttpOutlet(device=kind, host="10.0.0.7")


def test_energenie_of_0_9_has_its_own_keys() -> None:
    model, _, _ = BRANDS["energenie"]
    with (
        serve_outlets(model, outlets=4, password="1") as device,
        serve(EnerGenie(host=device.address, slot=3)) as client,
    ):
        client.on()
        assert device.is_on[3]
        client.off()
        assert not any(device.is_on.values())
        assert device.session is None


def test_a_device_is_left_after_an_error_too() -> None:
    with served("energenie") as device, serve(outlet(device, "energenie", 1, timeout=1.0)) as client:
        device.faults = ["ok", "status 503", "ok"]
        client.on()
        assert device.paths()[:3] == ["POST /login.html", "POST /", "GET /login.html"]
        assert device.session is None
