"""The Secret with the files that all controllers of a lab have in common. Blocking."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

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

__all__ = ["KubernetesSecret"]

MISSING, CONFLICT = 404, 409


class KubernetesSecret:
    """One object of a namespace."""

    NAME = "jumpstarter-controller-keys"

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"
        self._version = ""
        """As it was read last."""

    def read(self) -> dict[str, bytes] | None:
        """Return the content by name; None if there is no such Secret. StoreError: it cannot be read."""
        item = self._ask("GET", f"{self._path}/{self.NAME}", None)
        if item is None:
            return None
        self._version = str(item["metadata"]["resourceVersion"])
        found = {}
        for name, text in (item.get("data") or {}).items():
            try:
                found[str(name)] = base64.b64decode(text, validate=True)
            except (binascii.Error, TypeError):
                continue
        return found

    def make(self, files: Mapping[str, bytes]) -> bool:
        """Make it; False: another was first. StoreError: it cannot be made, or that is not known."""
        body: Object = {"metadata": {"name": self.NAME}, "type": "Opaque", "data": _encoded(files)}
        return self._ask("POST", self._path, body) is not None

    def add(self, files: Mapping[str, bytes]) -> bool:
        """Write these entries; False if the Secret has changed since it was read. StoreError: outcome unknown."""
        body: Object = {"metadata": {"resourceVersion": self._version}, "data": _encoded(files)}
        return self._ask("PATCH", f"{self._path}/{self.NAME}", body) is not None

    def _ask(self, method: str, path: str, body: Object | None) -> Object | None:
        query = {} if body is None else {"fieldManager": MANAGER}
        try:
            return self._api.ask(
                method, path, body, query, MERGE_PATCH if method == "PATCH" else "application/json"
            )
        except WrongAnswerError as error:
            # A namespace that is not there is nobody's who was first.
            if error.status == CONFLICT or (error.status == MISSING and method != "POST"):
                return None
            raise StoreError(refusal(self._api.host, error)) from error
        except UnansweredError as error:
            raise StoreError(f"the API server at {self._api.host} does not answer ({error})") from error


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in files.items()}
