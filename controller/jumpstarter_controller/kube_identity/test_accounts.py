"""Tokens that an API server does not get to review."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing
from jumpstarter_proto.rpc import RpcError, StatusCode
from kubernetes import client

from jumpstarter_controller.kube_identity.accounts import MAX_WRONG_PER_MINUTE, Accounts
from jumpstarter_controller.kube_identity.test_review_cache import full, token
from jumpstarter_controller.store.kubernetes.api import Api
from jumpstarter_controller.store.kubernetes.store import KubernetesStore


async def test_who_does_not_wait_for_the_answer_has_asked_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        api = Api(client.Configuration(host=f"http://127.0.0.1:{silent.getsockname()[1]}"), "lab")
        accounts = Accounts(KubernetesStore(api, "lab"), "lab:1", 3600.0)
        for _ in range(MAX_WRONG_PER_MINUTE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accounts.verify, token(full()))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        with pytest.raises(RpcError, match="too many wrong tokens") as caught:
            await accounts.verify(token(full()))
        assert caught.value.code is StatusCode.RESOURCE_EXHAUSTED
    api.close()
