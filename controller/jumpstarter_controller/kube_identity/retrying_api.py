"""Repeats requests to an API server, for a limited time."""

from __future__ import annotations

import random
from functools import partial

import trio

from jumpstarter_controller.store import StoreError
from jumpstarter_controller.store.kubernetes.api import UnansweredError, WrongAnswerError
from jumpstarter_controller.store.kubernetes.fields import Object
from jumpstarter_controller.store.kubernetes.store import RETRIED, KubernetesStore

__all__ = ["RetryingApi"]

MAX_THREADS = 8
"""Requests at the same time; one that is given up keeps its thread until the server or the connection ends it."""
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 1.0


class RetryingApi:
    """Repeats requests while the API server is busy, at most until the caller's time limit."""

    def __init__(self, store: KubernetesStore) -> None:
        self.store = store
        self._threads = trio.CapacityLimiter(MAX_THREADS)

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        seconds: float,
        kind: str = "application/json",
    ) -> Object:
        """Make one request, and return the answer.

        Raises:
            WrongAnswerError: the server rejected the request, and is not busy.
            StoreError: there was no answer within the time limit.
        """
        failure: Exception | None = None
        pause = FIRST_PAUSE_SECONDS
        with trio.move_on_after(seconds):
            while True:
                try:
                    return await trio.to_thread.run_sync(
                        partial(self.store.api.ask, method, path, body, kind=kind, seconds=seconds),
                        abandon_on_cancel=True,
                        limiter=self._threads,
                    )
                except UnansweredError as error:
                    failure, wait = error, pause
                except WrongAnswerError as error:
                    if error.status not in RETRIED:
                        raise
                    failure, wait = error, error.retry_seconds or pause
                await trio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - not all at once
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
        why = failure or f"nothing within {seconds:.0f} s"
        raise StoreError(
            f"the API server at {self.store.api.host} does not answer ({why}); try again"
        ) from failure
