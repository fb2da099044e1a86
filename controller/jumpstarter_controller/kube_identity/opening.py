"""Creates what a controller needs for tokens in Kubernetes."""

from __future__ import annotations

from jumpstarter_controller.identity.tokens import TOKEN_LIFETIME_SECONDS
from jumpstarter_controller.kube_identity.account_tokens import AccountSecretTokens
from jumpstarter_controller.kube_identity.accounts import Accounts
from jumpstarter_controller.kube_identity.credential_reconciler import CredentialReconciler
from jumpstarter_controller.kube_identity.own_tokens import OwnTokens
from jumpstarter_controller.process.data_folder import Addresses
from jumpstarter_controller.process.serving import Background
from jumpstarter_controller.reconciler.reconciler import Reconciler
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.store import Store
from jumpstarter_controller.store.kubernetes import KubernetesStore

__all__ = ["accounts_of", "keepers_of"]


def accounts_of(store: Store, addresses: Addresses) -> Accounts:
    """The ServiceAccount tokens of a controller with its store in Kubernetes."""
    assert isinstance(store, KubernetesStore)
    return Accounts(store, addresses.endpoint, addresses.token_seconds or TOKEN_LIFETIME_SECONDS)


def keepers_of(
    store: Store, reconciler: Reconciler, credentials: CredentialIssuer, accounts: Accounts | None
) -> list[Background]:
    """The tasks to run on the leader. Tokens come from `accounts`, or else from the controller itself."""
    assert isinstance(store, KubernetesStore)
    if accounts is None:
        return [CredentialReconciler(store, reconciler, OwnTokens(credentials)).run]
    tokens = AccountSecretTokens(store, accounts, credentials)
    keeper = CredentialReconciler(store, reconciler, tokens)
    tokens.changed = keeper.notice
    return [tokens.run, keeper.run]
