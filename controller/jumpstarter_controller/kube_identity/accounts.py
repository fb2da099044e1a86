"""Tokens of ServiceAccounts: the API server signs and verifies them.

Each client, exporter and host has an account, which is made when its first token is, and goes with its object.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from jumpstarter_proto.remote import Backoff, ReasonCode
from jumpstarter_proto.rpc import Attempts, RpcError, StatusCode

from jumpstarter_controller.identity import Subject, TokenError, expired
from jumpstarter_controller.kube_identity.claims import AccountClaims, account_name, audiences_of, claims_of
from jumpstarter_controller.kube_identity.retrying_api import RetryingApi
from jumpstarter_controller.kube_identity.review_cache import RejectionFactory, Review, ReviewCache, digest_of
from jumpstarter_controller.kube_identity.secrets import SecretOwner
from jumpstarter_controller.lab import Key
from jumpstarter_controller.services.objects import TYPES
from jumpstarter_controller.store import Store, StoreError
from jumpstarter_controller.store.kubernetes.api import MERGE_PATCH, WrongAnswerError
from jumpstarter_controller.store.kubernetes.fields import Object, dig
from jumpstarter_controller.store.kubernetes.store import KubernetesStore

__all__ = ["Accounts", "wait_for_reviews"]

REVIEW_SECONDS = 5.0
"""How long a call waits for the review of its token by the API server."""
STALE_REVIEW_SECONDS = 1.0
"""The same for a token that was valid before; then the earlier result applies."""
UNREACHABLE_SECONDS = 10.0
"""After a failed review, earlier results are used for this time without asking the API server."""
REQUEST_SECONDS = 10.0
MIN_SECONDS = 600
"""The shortest token lifetime that the API server accepts."""
MAX_SECONDS = 2**32
MAX_WRONG_PER_MINUTE = 60
"""Of tokens that name one subject: each costs the API server a request."""
MAX_SKEW_SECONDS = 5.0
MAX_TRIES = 5
"""The number of tries when an account is created or deleted at the same time."""
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
"""Between two looks whether tokens may be reviewed."""
FORBIDDEN, MISSING, CONFLICT = 403, 404, 409
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_log = logging.getLogger(__name__)


@dataclass
class _Asked:
    """A pending review and its result; no result if its task was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    review: Review | None = None
    failure: str = ""


class Accounts:
    """Issues tokens for one endpoint, and verifies them."""

    def __init__(
        self,
        store: KubernetesStore,
        endpoint: str,
        lifetime: float,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._api = RetryingApi(store)
        self._path = f"/api/v1/namespaces/{store.namespace}/serviceaccounts"
        self._endpoint = endpoint
        self._lifetime = lifetime
        self._clock = clock
        self._cache = ReviewCache()
        self._asked: dict[bytes, _Asked] = {}
        """Pending reviews, by token."""
        self._attempts = Attempts(MAX_WRONG_PER_MINUTE, 100 * MAX_WRONG_PER_MINUTE)
        self._failed = -math.inf
        """When a review last failed."""
        self._said_skew = 0.0
        self._is_said = False
        self.on_account: Callable[[Object], None] = lambda _: None
        """Called with each ServiceAccount that was read or created."""

    @property
    def skew(self) -> float:
        """By how much this machine's clock is ahead of the API server's; a few seconds are nothing."""
        server = self._store.api.server_time()
        skew = 0.0 if server is None else self._clock() - server
        return skew if abs(skew) > MAX_SKEW_SECONDS else 0.0

    # Tokens

    async def issue(self, subject: Subject, lifetime: float | None = None) -> tuple[str, float]:
        """A token, and when it ends by this machine's clock, in seconds since the epoch.

        Raises:
            StoreError: there is none; says why.
        """
        wanted = min(max(int(lifetime or self._lifetime), MIN_SECONDS), MAX_SECONDS)
        spec = {"audiences": audiences_of(subject, self._endpoint), "expirationSeconds": wanted}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"{self._path}/{account_name(subject)}/token"
        await self._have_account(subject)
        try:
            for _ in range(MAX_TRIES):
                try:
                    answer = await self._api.ask("POST", path, request, seconds=REQUEST_SECONDS)
                except WrongAnswerError as error:
                    if error.status != MISSING:
                        raise
                    await self._have_account(subject)  # somebody has deleted it meanwhile
                else:
                    return self._issued(answer, wanted)
        except WrongAnswerError as error:
            raise self._store.refusal(error) from error
        raise StoreError(
            f"the ServiceAccount {account_name(subject)} is deleted again and again; find the program that deletes it"
        )

    def _issued(self, answer: Object, wanted: int) -> tuple[str, float]:
        token = dig(answer, "status", "token")
        claims = claims_of(token) if isinstance(token, str) else None
        if claims is None:
            raise StoreError(f"the API server at {self._store.api.host} gave no token that can be used")
        self._mind_the_clock()
        if (granted := claims.expires - claims.issued) < wanted - MAX_SKEW_SECONDS and not self._is_said:
            self._is_said = True
            _log.warning(
                "the API server makes tokens for %.0f s at most, not for %d s; programs that do not renew theirs need "
                "a new one as often",
                granted,
                wanted,
            )
        return token, claims.expires + self.skew

    def _mind_the_clock(self) -> None:
        if abs(self.skew - self._said_skew) > MAX_SKEW_SECONDS:
            self._said_skew = self.skew
            _log.warning(
                "this machine's clock is %.0f s %s the API server's; tokens end by the latter",
                abs(self.skew),
                "behind" if self.skew < 0 else "ahead of",
            )

    async def _have_account(self, subject: Subject) -> None:
        """Create the ServiceAccount, or adopt one without an owner. StoreError: it has another owner."""
        kind, key = TYPES[subject.kind], Key(subject.namespace, subject.name)
        name = account_name(subject)
        try:
            for _ in range(MAX_TRIES):
                await trio.to_thread.run_sync(self._store.read, (kind, key))
                item = self._store.latest((kind, key))
                if item is None:
                    raise StoreError(f"{kind.KIND} {key} was deleted meanwhile")
                try:
                    await self._make(name, SecretOwner.of(item))
                except WrongAnswerError as error:
                    if error.status != CONFLICT:
                        raise
                else:
                    return
        except WrongAnswerError as error:
            raise self._store.refusal(error) from error
        raise StoreError(f"others change the ServiceAccount {name} all the time; try again")

    async def _make(self, name: str, owner: SecretOwner) -> None:
        try:
            account = await self._api.ask("GET", f"{self._path}/{name}", seconds=REQUEST_SECONDS)
        except WrongAnswerError as error:
            if error.status != MISSING:
                raise
            metadata: Object = {"name": name, "ownerReferences": owner.references(None)}
            account = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": metadata,
                "automountServiceAccountToken": False,
            }
            self.on_account(await self._api.ask("POST", self._path, account, seconds=REQUEST_SECONDS))
            return
        self.on_account(account)
        if owner.controls(account):
            return
        if not owner.may_take(account):
            raise StoreError(f"the ServiceAccount {name} belongs to something else; give that another name")
        patch = {
            "metadata": {
                "resourceVersion": dig(account, "metadata", "resourceVersion"),
                "ownerReferences": owner.references(account),
            }
        }
        await self._api.ask("PATCH", f"{self._path}/{name}", patch, seconds=REQUEST_SECONDS, kind=MERGE_PATCH)

    # Reviews

    def claimed_subject(self, token: str) -> Subject | None:
        """Return the subject that an unverified token names; None if it is not a ServiceAccount token of a lab."""
        claims = claims_of(token)
        return None if claims is None else claims.subject

    async def verify(self, token: str) -> tuple[Subject, float]:
        """Return the subject of a token, and its expiry in seconds since the epoch.

        Raises:
            TokenError: the token is invalid.
            RpcError: UNAVAILABLE, the API server cannot verify the token now.
        """
        review = await self._reviewed(token)
        # What is good now may have ended by a clock that is wrong.
        expires = max(review.claims.expires + self.skew, self._clock() + 1.0)
        return review.claims.subject, expires

    async def _reviewed(self, token: str) -> Review:
        claims, digest = claims_of(token), digest_of(token)
        if claims is None:
            raise TokenError("failed to authenticate token: it was not issued by this lab; log in again")
        while True:
            known = self._cache.fresh(digest, trio.current_time())
            if isinstance(known, Review):
                if claims.expires + self.skew > self._clock():
                    return known
            elif known is not None:
                raise known()
            if (asked := self._asked.get(digest)) is None:
                return await self._ask_for_all(token, digest, claims)
            await asked.done.wait()
            if asked.review is not None:
                return asked.review
            if asked.failure:
                raise RpcError(StatusCode.UNAVAILABLE, asked.failure)

    async def _ask_for_all(self, token: str, digest: bytes, claims: AccountClaims) -> Review:
        """Review a token. Concurrent calls with the same token share one review."""
        asked = self._asked[digest] = _Asked()
        try:
            asked.review = await self._review(token, digest, claims)
        except RpcError as error:
            asked.failure = "" if isinstance(error, TokenError) else error.details
            raise
        finally:
            del self._asked[digest]
            asked.done.set()
        return asked.review

    async def _review(self, token: str, digest: bytes, claims: AccountClaims) -> Review:
        whose, taken = str(claims.subject), trio.current_time()
        stale = self._cache.stale(digest, taken)
        if stale is not None and taken < self._failed + UNREACHABLE_SECONDS:
            return stale
        if stale is None and (wait := self._attempts.take(whose, taken)):
            raise RpcError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"too many wrong tokens of {claims.subject.name}; try again in {math.ceil(wait)} s",
            )
        is_wrong = True  # whoever does not wait for the answer has cost the API server as much
        try:
            status = await self._ask_review(token, REVIEW_SECONDS if stale is None else STALE_REVIEW_SECONDS)
            is_wrong = not self._is_good(status, claims)
        except (StoreError, WrongAnswerError) as error:
            is_wrong = False
            self._failed = trio.current_time()
            if stale is not None:
                _log.info("the API server does not review a token; what it said before holds: %s", error)
                return stale
            sentence = (
                reviews_refused(self._store, error) if isinstance(error, WrongAnswerError) else str(error)
            )
            raise RpcError(
                StatusCode.UNAVAILABLE, f"whether this token is good cannot be found out: {sentence}"
            ) from error
        finally:
            if not is_wrong:
                self._attempts.give_back(whose, taken)
        self._mind_the_clock()
        if not is_wrong:
            return self._cache.accept(digest, claims, trio.current_time())
        refusal = _refusal(str(status.get("error", "")))
        self._cache.refuse(digest, refusal, trio.current_time())
        raise refusal()

    def _is_good(self, status: Object, claims: AccountClaims) -> bool:
        """Whether the API server says that it is a token of that subject's account, for this endpoint."""
        audiences, namespace = status.get("audiences"), self._store.namespace
        return (
            status.get("authenticated") is True
            and isinstance(audiences, list)
            and self._endpoint in audiences
            and claims.subject.namespace == namespace
            and dig(status, "user", "username")
            == f"system:serviceaccount:{namespace}:{account_name(claims.subject)}"
        )

    async def _ask_review(self, token: str, seconds: float) -> Object:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._endpoint]},
        }
        answer = await self._api.ask("POST", REVIEWS, review, seconds=seconds)
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


def _refusal(why: str) -> RejectionFactory:
    """What the API server has against a token. Its words may be long, and are not for strangers."""
    if "expired" in why:
        return expired
    return _of_another if "audience" in why else _revoked


def _of_another() -> TokenError:
    return TokenError(
        "oidc: the token is for another controller; use the configuration that this one wrote",
        ReasonCode.TOKEN_UNFIT,
    )


def _revoked() -> TokenError:
    return TokenError("failed to authenticate token: it was revoked, or is forged; log in again")


async def wait_for_reviews(store: Store, say: Callable[[str], None]) -> None:
    """Wait until the controller may review tokens; `say` is called with the reason for waiting."""
    assert isinstance(store, KubernetesStore)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "none"}}
    backoff = Backoff(FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
    while True:
        try:
            await RetryingApi(store).ask("POST", REVIEWS, review, seconds=REQUEST_SECONDS)
        except WrongAnswerError as error:
            say(f"{reviews_refused(store, error)}, or run with --tokens own")
        except StoreError as error:
            say(str(error))
        else:
            return
        await trio.sleep(backoff.next())


def reviews_refused(store: KubernetesStore, error: WrongAnswerError) -> str:
    """Why no token can be reviewed, and what to do about it."""
    if error.status != FORBIDDEN:
        return str(store.refusal(error))
    return (
        f"the API server at {store.api.host} refuses the controller: {error.message}; "
        "apply deploy/service-accounts.yaml"
    )
