"""Selects the router for a connection, and issues the token for both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jumpstarter_proto.remote import EndpointError, split_endpoint
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_controller.selectors import check_labels
from jumpstarter_controller.selectors.labels import LabelError

__all__ = ["Router", "Routers"]


@dataclass(frozen=True)
class Router:
    """A router that clients and exporters can reach."""

    endpoint: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Router:
        """Parse `HOST:PORT[,KEY=VALUE...]`. EndpointError: it is invalid."""
        endpoint, *pairs = text.split(",")
        split_endpoint(endpoint)
        labels = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals:
                raise EndpointError(f"router {text}: {pair!r} is not a label; write it as KEY=VALUE")
            labels[key] = value
        try:
            check_labels(labels)
        except LabelError as error:
            raise EndpointError(f"router {text}: {error}") from None
        return cls(endpoint, labels)


class Routers:
    """All routers of a lab. `issue` makes a token for one connection, from a lifetime in seconds and log fields."""

    def __init__(self, routers: Sequence[Router], issue: Callable[[float, Mapping[str, str]], str]) -> None:
        self._routers = list(routers)
        self._issue = issue
        self._turn = 0
        self._away: set[str] = set()
        self._here: set[str] = set()

    def lost(self, endpoint: str) -> bool:
        """Mark a router as unreachable. Returns whether that is new."""
        self._here.discard(endpoint)
        news = endpoint not in self._away
        self._away.add(endpoint)
        return news

    def found(self, endpoint: str) -> bool:
        """Mark a router as reachable. Returns whether that is new."""
        self._away.discard(endpoint)
        news = endpoint not in self._here
        self._here.add(endpoint)
        return news

    def choose(self, labels: Mapping[str, str], seconds: float, about: Mapping[str, str]) -> tuple[str, str]:
        """Return endpoint and token for a connection to an exporter with these labels and this remaining time.

        The router with the highest `_score` is chosen. Routers with equal scores take turns, so that a client that
        dials again does not get a dead router twice. Routers that do not answer the controller are not chosen unless
        none answers: then the controller itself may be disconnected.

        Raises:
            RpcError: there is no router.
        """
        if not self._routers:
            raise RpcError(
                StatusCode.UNKNOWN, "no router available; start one or run the controller --with-router"
            )
        here = [router for router in self._routers if router.endpoint not in self._away] or self._routers
        scores = [_score(router.labels, labels) for router in here]
        best = [router for router, score in zip(here, scores, strict=True) if score == max(scores)]
        self._turn += 1
        return best[self._turn % len(best)].endpoint, self._issue(seconds, about)


def _score(router: Mapping[str, str], exporter: Mapping[str, str]) -> tuple[int, int]:
    """The score of a router; the highest is chosen.

    First as Jumpstarter's controller does: a router with all labels of the exporter, and the more the better. Then
    among the others: one with more labels of the exporter, and rather one without any than one for others.
    """
    same = sum(exporter.get(key) == value for key, value in router.items())
    wrong = any(exporter.get(key) != value for key, value in router.items())
    everything = same if exporter.items() <= router.items() else -1
    return everything, -1 if wrong else same
