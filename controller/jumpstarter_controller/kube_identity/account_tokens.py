"""Tokens of ServiceAccounts in Secrets, for programs that cannot renew tokens: valid as long as possible."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from jumpstarter_controller.identity import Subject, TokenError
from jumpstarter_controller.kube_identity.accounts import Accounts
from jumpstarter_controller.kube_identity.claims import account_name, claims_of
from jumpstarter_controller.kube_identity.name_watch import NameWatch
from jumpstarter_controller.kube_identity.review_cache import digest_of
from jumpstarter_controller.kube_identity.secrets import KINDS, SecretContent
from jumpstarter_controller.lab import Client, Exporter
from jumpstarter_controller.services.credentials import CredentialIssuer
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.mapping import revision_of
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = ["AccountSecretTokens"]

DAY = 86400.0
MIN_TOKEN_LIFETIME_SECONDS = 365 * DAY
"""The lifetime that is requested; the API server may grant less."""
MAX_REVIEWED = 16384


@dataclass(frozen=True)
class _SeenAccount:
    revision: int
    uid: str

    @classmethod
    def of(cls, account: Object) -> _SeenAccount:
        return cls(revision_of(account), str(dig(account, "metadata", "uid")))


class AccountSecretTokens:
    """`SecretTokens` with tokens of ServiceAccounts. `run` has to run in a task."""

    def __init__(self, store: KubernetesStore, accounts: Accounts, credentials: CredentialIssuer) -> None:
        self._accounts = accounts
        self._credentials = credentials
        self._reviewed: OrderedDict[bytes, SecretContent] = OrderedDict()
        self.changed: Callable[[Iterable[str]], None] = lambda _: None
        """Called with the names of accounts that are others than before; those of Secrets are the same."""
        self.watch = NameWatch(
            store,
            "serviceaccounts",
            _SeenAccount.of,
            _is_wanted,
            lambda names: self.changed(names),  # noqa: PLW0108 - it is set later
        )
        accounts.on_account = self._learn
        self.note = "Jumpstarter 0.9's programs do not renew it by themselves"

    def _learn(self, account: Object) -> None:
        name, seen = str(dig(account, "metadata", "name")), _SeenAccount.of(account)
        if _is_wanted(name):
            self.watch.learn(name, seen, seen.revision)

    @property
    def endpoint(self) -> str:
        """The endpoint that the tokens are valid for."""
        return self._credentials.addresses.endpoint

    async def for_secret(self, record: Client | Exporter) -> tuple[str, float]:
        """A new token, and when it expires in seconds since the epoch."""
        subject = Subject(KINDS[type(record)], record.namespace, record.name, record.uid)
        return await self._accounts.issue(
            subject, max(MIN_TOKEN_LIFETIME_SECONDS, self._credentials.lifetime)
        )

    async def content(self, token: str) -> SecretContent:
        """The claims of a token in a Secret, which is untrusted. RpcError: it cannot be reviewed now."""
        claims, digest = claims_of(token), digest_of(token)
        if claims is None or self.endpoint not in claims.audiences:
            return SecretContent()
        await self.watch.listed.wait()
        account = self.watch.seen.get(account_name(claims.subject))
        if account is None or account.uid != claims.account_uid:
            return SecretContent()  # somebody has deleted the account, and its tokens are not good any more
        if (known := self._reviewed.get(digest)) is None:
            try:
                subject, expires = await self._accounts.verify(token)
            except TokenError:
                return SecretContent()
            lifetime = claims.expires - claims.issued
            known = self._reviewed[digest] = SecretContent(
                subject, expires, expires - min(7 * DAY, lifetime / 5)
            )
            while len(self._reviewed) > MAX_REVIEWED:
                self._reviewed.popitem(last=False)
        return known

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the ServiceAccounts until cancelled."""
        task_status.started()
        await self.watch.run()


def _is_wanted(name: str) -> bool:
    return name.endswith(("-client", "-exporter"))
