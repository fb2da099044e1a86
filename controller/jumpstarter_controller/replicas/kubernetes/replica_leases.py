"""A lease of coordination.k8s.io for each controller of a lab: that it lives, and where others reach it. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from jumpstarter_controller.replicas import LIFETIME_SECONDS, ReplicaRecord
from jumpstarter_controller.store.contract import StoreError
from jumpstarter_controller.store.kubernetes.api import (
    MANAGER,
    MERGE_PATCH,
    Api,
    UnansweredError,
    WrongAnswerError,
    refusal,
)
from jumpstarter_controller.store.kubernetes.fields import Object, dig

__all__ = ["ReplicaLeases"]

PREFIX = "jumpstarter-controller-"
LABEL = "lab.jumpstarter.dev/replica"
ADDRESS = "lab.jumpstarter.dev/replica-address"
ANSWER_SECONDS = 5.0
MISSING = 404


class ReplicaLeases:
    """The Lease objects of replicas in one namespace."""

    def __init__(self, api: Api, namespace: str, *, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._clock = clock

    def all(self) -> Mapping[str, ReplicaRecord]:
        """All of them, by name. StoreError: they cannot be read."""
        answer = self._ask("GET", self._path, query={"labelSelector": LABEL}) or {}
        found = {}
        for item in answer.get("items") or ():
            name = str(dig(item, "spec", "holderIdentity") or "")
            address = str((dig(item, "metadata", "annotations") or {}).get(ADDRESS) or "")
            # Nobody else's object says where we connect to: its name has to be the replica's.
            if name and address and item["metadata"]["name"] == PREFIX + name:
                found[name] = ReplicaRecord(address, str(item["metadata"]["resourceVersion"]))
        return found

    def write(self, name: str, address: str) -> None:
        """One's own, anew. StoreError: it cannot be written."""
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body: Object = {
            "metadata": {"labels": {LABEL: "true"}, "annotations": {ADDRESS: address}},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": round(LIFETIME_SECONDS),
                "renewTime": now,
            },
        }
        if self._ask("PATCH", f"{self._path}/{PREFIX}{name}", body) is None:
            body["metadata"]["name"] = PREFIX + name
            self._ask("POST", self._path, body)

    def remove(self, name: str) -> None:
        """That one is gone. StoreError: it cannot be removed."""
        self._ask("DELETE", f"{self._path}/{PREFIX}{name}")

    def _ask(
        self, method: str, path: str, body: Object | None = None, query: Mapping[str, str] | None = None
    ) -> Object | None:
        """None if the object does not exist."""
        if method in {"PATCH", "POST"}:
            query = {"fieldManager": MANAGER}
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        try:
            return self._api.ask(method, path, body, query, kind, seconds=ANSWER_SECONDS)
        except WrongAnswerError as error:
            if error.status == MISSING and method != "POST":
                return None
            raise StoreError(refusal(self._api.host, error)) from error
        except UnansweredError as error:
            raise StoreError(f"the API server at {self._api.host} does not answer ({error})") from error
