"""The record that says which controller leads: an object of coordination.k8s.io, which is Kubernetes' own lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from jumpstarter_controller.replicas import LeaderRecord
from jumpstarter_controller.store.contract import StoreError
from jumpstarter_controller.store.kubernetes.api import (
    MANAGER,
    MERGE_PATCH,
    Api,
    UnansweredError,
    WrongAnswerError,
    refusal,
)
from jumpstarter_controller.store.kubernetes.fields import Object

__all__ = ["LeaderLock"]

NAME = "jumpstarter-controller"
ANSWER_SECONDS = 2.0
"""A leader that waits longer for a reply has lost the lock."""
MISSING, CONFLICT = 404, 409


class LeaderLock:
    """One object of a namespace. Blocking: for a thread."""

    def __init__(self, api: Api, namespace: str, *, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._clock = clock

    def read(self) -> tuple[LeaderRecord | None, str]:
        """What it says, and its version. StoreError: it cannot be read."""
        try:
            item = self._api.ask("GET", f"{self._path}/{NAME}", seconds=ANSWER_SECONDS)
        except WrongAnswerError as error:
            if error.status == MISSING:
                return None, ""
            raise StoreError(refusal(self._api.host, error)) from error
        except UnansweredError as error:
            raise StoreError(f"the API server at {self._api.host} does not answer ({error})") from error
        return _claim(item), str(item["metadata"]["resourceVersion"])

    def write(self, claim: LeaderRecord, version: str) -> str | None:
        """Write it over that version, or make it if that is empty; its version, None if another was first.

        StoreError: it was not written, or that is not known.
        """
        now = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: Object = {
            "holderIdentity": claim.holder,
            "leaseDurationSeconds": max(1, round(claim.seconds)),
            "leaseTransitions": claim.transitions,
            "renewTime": now,
        }
        query = {"fieldManager": MANAGER}
        try:
            if version:
                body: Object = {"metadata": {"resourceVersion": version}, "spec": spec}
                item = self._api.ask(
                    "PATCH", f"{self._path}/{NAME}", body, query, MERGE_PATCH, seconds=ANSWER_SECONDS
                )
            else:
                body = {"metadata": {"name": NAME}, "spec": spec}
                item = self._api.ask("POST", self._path, body, query, seconds=ANSWER_SECONDS)
        except WrongAnswerError as error:
            # A namespace that is not there is nobody's who was first.
            if error.status == CONFLICT or (error.status == MISSING and version):
                return None
            raise StoreError(refusal(self._api.host, error)) from error
        except UnansweredError as error:
            raise StoreError(f"the API server at {self._api.host} does not answer ({error})") from error
        return str(item["metadata"]["resourceVersion"])


def _claim(item: Object) -> LeaderRecord:
    spec = item.get("spec") or {}
    return LeaderRecord(
        str(spec.get("holderIdentity") or ""),
        float(spec.get("leaseDurationSeconds") or 0),
        int(spec.get("leaseTransitions") or 0),
    )
