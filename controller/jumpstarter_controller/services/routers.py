"""Which router carries a connection, and the token that lets both sides in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jumpstarter_proto.rpc import RpcError, StatusCode

__all__ = ["Router", "Routers"]


@dataclass(frozen=True)
class Router:
    """A router that clients and exporters can reach."""

    endpoint: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Routers:
    """All routers of a lab. `issue` makes a token for one connection."""

    def __init__(self, routers: Sequence[Router], issue: Callable[[], str]) -> None:
        self._routers = list(routers)
        self._issue = issue
        self._turn = 0

    def choose(self, labels: Mapping[str, str]) -> tuple[str, str]:
        """Endpoint and token for a connection to an exporter with these labels.

        A router that has all of the exporter's labels is better than one without; equals take turns, so that
        a client that dials again comes past a router that died.

        Raises:
            RpcError: there is no router.
        """
        if not self._routers:
            raise RpcError(
                StatusCode.UNKNOWN, "no router available; start one or run the controller --with-router"
            )
        scores = [_score(router.labels, labels) for router in self._routers]
        best = [router for router, score in zip(self._routers, scores, strict=True) if score == max(scores)]
        self._turn += 1
        return best[self._turn % len(best)].endpoint, self._issue()


def _score(router: Mapping[str, str], exporter: Mapping[str, str]) -> int:
    if any(router.get(key) != value for key, value in exporter.items()):
        return -1
    return len(exporter)
