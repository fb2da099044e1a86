"""What is known of objects by their names, in whatever order it is heard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest
from kubernetes import client

from jumpstarter_controller.kube_identity.name_watch import MAX_GONE, NameWatch
from jumpstarter_controller.store.kubernetes.api import Api
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.mapping import revision_of
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

NAME = "ann-client"


@dataclass(frozen=True)
class Thing:
    revision: int

    @classmethod
    def of(cls, item: Object) -> Thing:
        return cls(revision_of(item))


def watch() -> NameWatch[Thing]:
    store = KubernetesStore(Api(client.Configuration(host="https://127.0.0.1:1"), "lab"), "lab")
    return NameWatch(store, "secrets", Thing.of, lambda _: True, lambda _: None)


@pytest.mark.parametrize("is_back", [False, True])
def test_what_somebody_has_deleted_is_gone_in_whatever_order_that_is_heard(is_back: bool) -> None:
    heard = [(Thing(1), 1), (Thing(2), 2), (None, 3), *([(Thing(4), 4)] if is_back else [])]
    for order in permutations(heard):
        names = watch()
        for seen, revision in order:
            names.learn(NAME, seen, revision)
        assert names.seen == ({NAME: Thing(4)} if is_back else {}), order


def test_only_so_many_that_are_gone_are_remembered() -> None:
    names = watch()
    for number in range(MAX_GONE + 1):
        names.learn(f"client-{number}", None, 2)
    names.learn(f"client-{MAX_GONE}", Thing(1), 1)
    assert not names.seen
    names.learn("client-0", Thing(1), 1)
    assert names.seen == {"client-0": Thing(1)}
