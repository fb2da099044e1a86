"""An exporter that asks again: quickly, slowly, loudly, quietly, and for ever."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jumpstarter_proto.remote import EndpointError
from jumpstarter_proto.rpc import RpcError, StatusCode

from jumpstarter_exporter.registration.retry_policy import (
    FIRST_RETRY_AFTER_REJECTION_SECONDS,
    FIRST_RETRY_SECONDS,
    MAX_RETRY_AFTER_REJECTION_SECONDS,
    MAX_RETRY_SECONDS,
    RateLimit,
    RetryPolicy,
    is_rejection,
)

AWAY = RpcError(StatusCode.UNAVAILABLE, "cannot connect to lab:8082")
DELETED = RpcError(StatusCode.UNKNOWN, "exporter lab/one not found: it was deleted")


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (AWAY, False),
        (RpcError(StatusCode.DEADLINE_EXCEEDED, "Register was not done"), False),
        (RpcError(StatusCode.ABORTED, "another process"), False),
        (RpcError(StatusCode.UNKNOWN, "the server is currently unable to handle the request"), False),
        (DELETED, True),
        (RpcError(StatusCode.UNKNOWN, "oidc: token is expired"), True),
        (RpcError(StatusCode.UNAUTHENTICATED, "exporter one was deleted"), True),
        (RpcError(StatusCode.PERMISSION_DENIED, "permission denied"), True),
        (RpcError(StatusCode.ALREADY_EXISTS, "another process is served"), True),
        (EndpointError("no address"), True),
    ],
)
def test_who_is_refused_is_told_apart_from_who_is_away(error: RpcError, refused: bool) -> None:
    assert is_rejection(error) is refused


def test_who_has_no_token_any_more_is_told_how_to_get_one() -> None:
    denied = RpcError(StatusCode.PERMISSION_DENIED, "permission denied for exporter default/one")
    assert (
        "admin pair exporter NAME --renew`, and `jumpstarter-exporter enrol`"
        in RetryPolicy().failed(denied).sentence
    )
    taken = RpcError(StatusCode.ALREADY_EXISTS, "another process is served")
    assert "--renew" not in RetryPolicy().failed(taken).sentence


def test_a_refusal_is_an_error_and_is_tried_slowly() -> None:
    patience = RetryPolicy()
    pauses = [patience.failed(DELETED) for _ in range(12)]
    assert "rejected this exporter: exporter lab/one not found" in pauses[0].sentence
    loud = [number for number, pause in enumerate(pauses) if pause.level == logging.ERROR]
    assert loud == [0, 10], "said aloud at first, and again after ten"
    assert MAX_RETRY_AFTER_REJECTION_SECONDS / 2 <= pauses[-1].seconds <= MAX_RETRY_AFTER_REJECTION_SECONDS


def test_who_was_served_for_a_while_and_is_refused_anew_is_tried_as_soon_as_at_first() -> None:
    patience = RetryPolicy()
    for _ in range(12):
        patience.failed(DELETED)
    patience.succeeded()
    again = patience.failed(DELETED)
    assert (again.seconds <= FIRST_RETRY_AFTER_REJECTION_SECONDS, again.level) == (True, logging.ERROR)


def test_a_controller_that_ends_its_stream_well_is_asked_again_soon() -> None:
    patience = RetryPolicy()
    for _ in range(20):
        assert patience.ended().seconds <= FIRST_RETRY_SECONDS
        patience.succeeded()


@given(st.lists(st.sampled_from([AWAY, DELETED, None]), max_size=60))
def test_it_never_gives_up_and_never_runs_wild(outcomes: list[RpcError | None]) -> None:
    patience = RetryPolicy()
    for outcome in outcomes:
        if outcome is None:
            patience.succeeded()
            assert patience.failed(AWAY).seconds <= FIRST_RETRY_SECONDS
            assert patience.failed(AWAY).level == logging.INFO, "the same again"
        else:
            pause = patience.failed(outcome)
            assert (
                FIRST_RETRY_SECONDS / 2
                <= pause.seconds
                <= (MAX_RETRY_AFTER_REJECTION_SECONDS if outcome is DELETED else MAX_RETRY_SECONDS)
            )
            assert outcome.details in pause.sentence


@given(st.lists(st.floats(0, 50), min_size=1, max_size=200), st.integers(1, 20), st.floats(0.5, 20))
def test_what_a_peer_says_is_taken_no_faster_than_agreed(
    silences: list[float], burst: int, per_second: float
) -> None:
    pace, now, taken = RateLimit(burst, per_second), 0.0, []
    for silence in silences:
        now += silence
        taken.append(now)
        wait, _ = pace.take(now)
        now += wait
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            most = burst + 1 + (taken[last] - taken[first]) * per_second
            assert last - first + 1 <= most + 0.001


def test_a_peer_that_is_too_fast_is_told_of_once_until_it_was_quiet() -> None:
    pace = RateLimit(2, 1.0)
    news = [pace.take(0.0)[1] for _ in range(10)]
    assert news.count(True) == 1
    assert not news[0]
    assert pace.take(100.0) == (0.0, False)
    assert [pace.take(100.0)[1] for _ in range(5)].count(True) == 1
