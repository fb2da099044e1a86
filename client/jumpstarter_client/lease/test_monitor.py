"""What runs on a board goes on, whatever keeps its lease from being looked at."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
from jumpstarter_proto.client.v1 import client_pb2 as pb
from jumpstarter_proto.remote import Identity, Kind, Trust

from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_client.lease.monitor import LeaseMonitor


async def test_a_token_that_ends_and_cannot_be_renewed_ends_no_shell(tmp_path: Path) -> None:
    token = jwt.encode({"iss": "https://id.example.org", "exp": time.time() - 1}, "x" * 32)
    file = tmp_path / "ann.yaml"
    file.write_text(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ClientConfig\nmetadata: {namespace: lab, name: ann}\n"
        f"endpoint: 127.0.0.1:1\ntoken: {token}\nrefresh_token: again\n"
    )
    identity = Identity(Kind.CLIENT, "lab", "ann", token)
    config = ClientConfig("127.0.0.1:1", identity, Trust(), refresh_token="again", path=file)
    said: list[str] = []
    lease = pb.Lease(name="namespaces/lab/leases/x", client="namespaces/lab/clients/ann")
    monitor = LeaseMonitor(ControllerClient(config), lease, "x", said.append)
    await monitor.poll()
    assert not monitor.end_reason
    assert len(said) == 1
    assert "the token has expired and cannot be renewed" in said[0]
    assert "continues" in said[0]
