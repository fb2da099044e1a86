"""What is told of a lab by Events, and how often."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from jumpstarter_controller.lab import Client, ConditionType, Exporter, ExporterStatus, Lease, LeaseCondition
from jumpstarter_controller.store.kubernetes.events import Bucket, News, news_of

LEASE = Lease(namespace="lab", name="mine", client="ann", duration=60.0)
OFFERED = replace(LEASE, exporter="one", offered=1.0)
ACTIVE = replace(LEASE, exporter="one", begun=2.0)
FRESH = Exporter(namespace="lab", name="one")
REGISTERED = replace(FRESH, devices=4)
ONLINE = replace(REGISTERED, status=ExporterStatus.AVAILABLE, status_message="Available for new lease")
GONE = replace(ONLINE, status=ExporterStatus.OFFLINE, status_message="Exporter shutdown")
ANN = Client(namespace="lab", name="ann", uid="1")


def ended(lease: Lease, kind: ConditionType, message: str) -> Lease:
    condition = LeaseCondition(kind, kind is not ConditionType.READY, "Why", message)
    return replace(lease, ended=3.0).with_condition(condition)


REFUSED = ended(LEASE, ConditionType.UNSATISFIABLE, "no exporter has board=x")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, LEASE, []),
        (LEASE, OFFERED, []),
        (OFFERED, ACTIVE, [News("LeaseAcquired", "Client ann has exporter one")]),
        (ACTIVE, replace(ACTIVE, release=True), []),
        (
            ACTIVE,
            ended(ACTIVE, ConditionType.READY, "it was released"),
            [News("LeaseEnded", "it was released")],
        ),
        (
            replace(LEASE, release=True),
            ended(replace(LEASE, release=True), ConditionType.READY, "it was released"),
            [News("LeaseEnded", "it was released")],
        ),
        (LEASE, REFUSED, [News("LeaseRefused", "no exporter has board=x", is_warning=True)]),
        (REFUSED, replace(REFUSED, release=True), []),
        (None, FRESH, []),
        (
            FRESH,
            REGISTERED,
            [News("ExporterRegistered", "Exporter registered its capabilities: deviceCount=4")],
        ),
        (REGISTERED, ONLINE, [News("ExporterOnline", "Available for new lease")]),
        (ONLINE, replace(ONLINE, status=ExporterStatus.LEASE_READY), []),
        (ONLINE, replace(ONLINE, lease="mine", devices=5), []),
        (ONLINE, GONE, [News("ExporterOffline", "Exporter shutdown", is_warning=True)]),
        (
            GONE,
            replace(GONE, devices=0),
            [News("ExporterUnregistered", "Exporter shutdown", is_warning=True)],
        ),
        (None, ANN, [News("CredentialCreated", "The client has a token")]),
        (ANN, replace(ANN, enabled=False), []),
        (ANN, replace(ANN, uid="2"), [News("CredentialCreated", "The client has a new token")]),
        (None, replace(ANN, username="id:ann"), []),
    ],
)
def test_what_people_ask_is_told_once(
    before: Lease | Exporter | Client | None, after: Lease | Exporter | Client, told: list[News]
) -> None:
    assert list(news_of(before, after)) == told


def test_so_many_at_once_and_so_many_behind_them() -> None:
    bucket = Bucket(burst=3, per_second=0.5)
    assert [bucket.takes(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.takes(101.0), bucket.takes(102.0), bucket.takes(102.0)] == [False, True, False]
    assert sum(bucket.takes(1e6) for _ in range(10)) == 3, "who was quiet for long has no more than at first"
    assert not bucket.takes(0.0), "a clock that goes back gives nothing"
