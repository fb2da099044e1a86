"""What looks after the Secrets of a lab in Kubernetes, as its controller runs it."""

from __future__ import annotations

from jumpstarter_controller.engine import Engine
from jumpstarter_controller.kube_identity.keeper import CredentialKeeper
from jumpstarter_controller.kube_identity.own_tokens import OwnTokens
from jumpstarter_controller.services.credentials import Credentials
from jumpstarter_controller.store import Store
from jumpstarter_controller.store.kubernetes import KubernetesStore

__all__ = ["keeper_of"]


def keeper_of(store: Store, engine: Engine, credentials: Credentials) -> CredentialKeeper:
    """The keeper of a store that is in Kubernetes."""
    assert isinstance(store, KubernetesStore)
    return CredentialKeeper(store, engine, OwnTokens(credentials))
