"""Where there is a code, nothing is read out of a sentence; where there is none, the sentences of 0.9 are known."""

from __future__ import annotations

import pytest

from jumpstarter_proto.remote import REASON, ReasonCode, means, reason_of, refused
from jumpstarter_proto.rpc import RpcError, StatusCode

SENTENCES = [
    (StatusCode.UNKNOWN, 'leases.jumpstarter.dev "x" not found', {ReasonCode.NOT_FOUND}),
    (
        StatusCode.UNKNOWN,
        'exporter lab/one: exporters.jumpstarter.dev "one" not found',
        {ReasonCode.NOT_FOUND, ReasonCode.CALLER_GONE},
    ),
    (StatusCode.UNKNOWN, "UpdateLease permission denied", {ReasonCode.NOT_YOURS}),
    (
        StatusCode.PERMISSION_DENIED,
        "permission denied for client lab/ann",
        {ReasonCode.NOT_YOURS, ReasonCode.CALLER_DENIED},
    ),
    (StatusCode.NOT_FOUND, "method on missing marker streamingdriver_method", {ReasonCode.OTHER_KIND}),
    (StatusCode.UNAUTHENTICATED, "invalid or missing passphrase", {ReasonCode.BAD_PASSPHRASE}),
    (
        StatusCode.UNKNOWN,
        "failed to authenticate token",
        {ReasonCode.BAD_TOKEN, ReasonCode.CALLER_DENIED},
    ),
    (
        StatusCode.UNKNOWN,
        "oidc: verify token: token is expired",
        {ReasonCode.BAD_TOKEN, ReasonCode.CALLER_DENIED, ReasonCode.TOKEN_EXPIRED},
    ),
    (
        StatusCode.UNKNOWN,
        "oidc: the token is from the future; set the clocks of both machines",
        {ReasonCode.BAD_TOKEN, ReasonCode.TOKEN_UNFIT, ReasonCode.CALLER_DENIED},
    ),
    (
        StatusCode.UNKNOWN,
        "failed to authenticate token: it was revoked, or is forged; log in again",
        {ReasonCode.BAD_TOKEN, ReasonCode.CALLER_DENIED},
    ),
    (StatusCode.UNKNOWN, "selector is required", {ReasonCode.BAD_WISH}),
    (StatusCode.FAILED_PRECONDITION, "exporter is offline", {ReasonCode.NOT_READY}),
    (StatusCode.FAILED_PRECONDITION, "exporter is not ready", {ReasonCode.NOT_READY}),
    (StatusCode.UNAVAILABLE, "exporter is not ready", set()),
    (StatusCode.UNKNOWN, "the selector is not there", set()),
    (StatusCode.UNKNOWN, "", set()),
]


@pytest.mark.parametrize(("code", "sentence", "said"), SENTENCES)
def test_sentences_of_peers_without_codes(code: StatusCode, sentence: str, said: set[ReasonCode]) -> None:
    error = RpcError(code, sentence)
    assert {one for one in ReasonCode if means(error, one)} == said
    assert means(error, *ReasonCode) is bool(said)
    assert reason_of(error) == ""


@pytest.mark.parametrize(("code", "sentence", "said"), SENTENCES)
def test_a_code_is_all_that_counts(code: StatusCode, sentence: str, said: set[ReasonCode]) -> None:
    for reason in ReasonCode:
        error = refused(code, sentence, reason)
        assert {one for one in ReasonCode if means(error, one)} == {reason}
        assert reason_of(error) == reason
    unknown = RpcError(code, sentence, [(REASON, "of a later version")])
    assert not means(unknown, *ReasonCode)
