"""What is listed fits into messages, whoever has written it."""

from __future__ import annotations

import pytest
from jumpstarter_proto.client.v1 import client_pb2
from jumpstarter_proto.lab.v1 import exporters_pb2
from jumpstarter_proto.remote import Identity, Kind

from jumpstarter_controller.lab import Draft, Exporter, Lease
from jumpstarter_controller.services.conftest import ANN, Lab
from jumpstarter_controller.store.contract import MAX_HALF_BYTES

NAMES = {f"large-{number:02}" for number in range(12)}
LARGE = {"x" * (MAX_HALF_BYTES - 1000): "y"}


@pytest.fixture
async def ann(lab: Lab) -> Identity:
    def write(records: Draft, _: float) -> None:
        for name in NAMES:
            records.put(Exporter(namespace="default", name=name, labels=LARGE))
            records.put(Lease(namespace="default", name=name, client="bob", tags=LARGE, ended=1.0))

    ann = await lab.made(Kind.CLIENT, ANN)
    await lab.reconciler.change(write)
    return ann


async def test_large_records_come_in_as_many_pages_as_they_need(lab: Lab, ann: Identity) -> None:
    leases: list[str] = []
    request = client_pb2.ListLeasesRequest(parent="namespaces/default", only_active=False)
    while True:
        page = await lab.client.ListLeases(request, metadata=ann.metadata())
        leases += [one.name.rpartition("/")[2] for one in page.leases]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert leases == sorted(NAMES)
    exporters: list[str] = []
    asked = client_pb2.ListExportersRequest(parent="namespaces/default", page_size=100)
    while True:
        found = await lab.client.ListExporters(asked, metadata=ann.metadata())
        exporters += [one.name.rpartition("/")[2] for one in found.exporters]
        if not found.next_page_token:
            break
        asked.page_token = found.next_page_token
    assert exporters == sorted(NAMES)


async def test_large_records_are_watched(lab: Lab, ann: Identity) -> None:
    wish = exporters_pb2.WatchRequest(exporters=True, leases=exporters_pb2.LEASE_SCOPE_ALL)
    found: set[str] = set()
    async with lab.details.Watch(wish, metadata=ann.metadata()) as call:
        while True:
            news = await call.receive()
            found |= {one.name.rpartition("/")[2] for one in news.exporters}
            if news.revision:
                break
    assert found == NAMES
