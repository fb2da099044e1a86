"""Which URLs a user may let a hosted driver fetch."""

from __future__ import annotations

import pytest
import trio
from jumpstarter_proto.reach import AddressRefused, Reach
from jumpstarter_proto.value import JSON, to_value

from jumpstarter_exporter.hosting.urls import check_urls
from jumpstarter_exporter.user_reach import reach_limited_to


def handle(url: str) -> JSON:
    return {"kind": "presigned_request", "url": url, "method": "GET", "headers": {}}


LOOPBACK = handle("http://127.0.0.1:8080/secret")


@pytest.mark.parametrize(
    "argument", [LOOPBACK, [LOOPBACK], {"image": [1, LOOPBACK]}, handle("https://[::1]/x")]
)
async def test_users_of_a_lease_reach_nothing_of_the_host(argument: JSON) -> None:
    with (
        reach_limited_to(Reach.limited()),
        pytest.raises(AddressRefused, match="not reached for users of a lease"),
    ):
        await check_urls([to_value("flash"), to_value(argument)])


async def test_other_hosts_are_reached_and_allowed_ones() -> None:
    with reach_limited_to(Reach.limited(["127.0.0.1"])):
        await check_urls(
            [to_value(LOOPBACK), to_value(handle("http://192.0.2.7/image")), to_value("http://[::1]")]
        )


async def test_local_users_reach_everything() -> None:
    await check_urls([to_value(LOOPBACK)])


@pytest.mark.parametrize("url", ["file:///etc/shadow", "http:///x", "127.0.0.1"])
async def test_other_schemes_are_refused(url: str) -> None:
    with reach_limited_to(Reach.limited()), pytest.raises(ValueError, match="http"):
        await check_urls([to_value(handle(url))])
    await trio.lowlevel.checkpoint()
