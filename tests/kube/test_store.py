"""The store in Kubernetes where somebody else writes, or the API server does not do what it is asked for."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_controller.lab import (
    Client,
    Drain,
    Exporter,
    ExporterDevices,
    ExporterStatus,
    Key,
    Lease,
    Policy,
    Record,
    ReportedDevice,
    Rule,
)
from jumpstarter_controller.lab.tables import RecordRef
from jumpstarter_controller.store import (
    Change,
    Conflict,
    DamagedError,
    Half,
    StoreError,
    StoreEvent,
    TooOldError,
    Unknown,
    Written,
)
from jumpstarter_controller.store.contract import Cursor, key_of
from jumpstarter_controller.store.kubernetes import KubernetesStore, api, connect
from jumpstarter_controller.store.kubernetes import store as module
from jumpstarter_controller.store.kubernetes.follower import Versions
from jumpstarter_controller.store.kubernetes.store import MAX_WRITES
from jumpstarter_controller.store.whole import fill
from kubernetes.config import incluster_config
from msgspec.structs import replace

from tests.kube.conftest import DEFINITIONS, define_all
from tests.kube.faulty import CUT_AFTER, CUT_BEFORE, PASS, Faults, faulty
from tests.kube.server.cluster import ApiServer, Cluster

LIMIT = 30.0
"""Seconds in which an event comes."""


@pytest.fixture
def store(lab_cluster: Cluster, namespace: str) -> Iterator[KubernetesStore]:
    with closing(KubernetesStore(connect(lab_cluster.kubeconfig), namespace)) as store:
        yield store


@pytest.fixture
def faults(lab_cluster: Cluster, tmp_path: Path) -> Iterator[Faults]:
    with faulty(lab_cluster, tmp_path) as faults:
        yield faults


@pytest.fixture
def shaken(faults: Faults, namespace: str) -> Iterator[KubernetesStore]:
    """A store behind the proxy."""
    with closing(KubernetesStore(connect(faults.kubeconfig), namespace)) as store:
        yield store


@pytest.fixture
def ann(namespace: str) -> Client:
    return Client(namespace=namespace, name="ann", uid="of-ann", labels={"team": "a"})


@pytest.fixture
def board(namespace: str) -> Exporter:
    return Exporter(namespace=namespace, name="rpi4", uid="of-rpi4", labels={"board": "rpi4"})


def making(record: Record, request: str = "make") -> Change:
    return Change(key_of(record), Half.SPEC, record, None, request)


def changing(record: Record, before: Written, half: Half, request: str = "change") -> Change:
    return Change(key_of(record), half, record, before.revision, request)


def objects(namespace: str, kind: str = "leases") -> str:
    return f"/apis/jumpstarter.dev/v1alpha1/namespaces/{namespace}/{kind}"


def lease_object(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"clientRef": {"name": "ann"}, "selector": {"matchLabels": {"board": "rpi4"}}} | spec,
    }


class Reader:
    """Follows a store."""

    def __init__(self, store: KubernetesStore, cursor: Cursor = None) -> None:
        """From now on, or from a cursor, which then has to be good."""
        self._store = store
        self._is_strict = cursor is not None
        self._cursor = cursor or store.snapshot().cursor

    def until(self, holds: Callable[[StoreEvent], bool]) -> StoreEvent:
        """The first event for which that is so."""
        due = time.monotonic() + LIMIT
        while time.monotonic() < due:
            for event in self._news():
                if holds(event):
                    return event
        raise AssertionError("it was not told")

    def settle(self) -> None:
        """What the store itself does about what was read."""
        self._store.watch(self._cursor, 0)

    def _news(self) -> Sequence[StoreEvent]:
        try:
            seen = self._store.watch(self._cursor, 1)
        except StoreError:  # a server that starts says so for a while
            time.sleep(0.1)
            return ()
        except TooOldError:
            if self._is_strict:
                raise
            snapshot = self._store.snapshot()
            self._cursor = snapshot.cursor
            return [StoreEvent(place, stored.revision, stored) for place, stored in snapshot.records.items()]
        self._cursor = seen.cursor
        return seen.events

    def of(self, place: RecordRef) -> StoreEvent:
        return self.until(lambda event: event.ref == place)


# What others write


def test_a_lease_that_no_store_can_read_is_left_alone_and_stops_nothing(
    lab_cluster: Cluster,
    namespace: str,
    store: KubernetesStore,
    ann: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(store, ann)
    reader = Reader(store)
    path = objects(namespace)
    lab_cluster.ask("POST", path, lease_object("bad", duration="banana"))
    place = (Lease, Key(namespace, "bad"))
    assert reader.of(place).stored is None
    for _ in range(2):
        assert store.snapshot().records.keys() == {key_of(ann)}
    assert caplog.text.count("its duration: 'banana' is not a duration") == 1
    assert f"lease {namespace}/bad is not a valid record of a lab" in caplog.text
    assert store.read(place) is None
    bad = Lease(namespace=namespace, name="bad", client="ann", selector="board=rpi4", duration=60.0)
    with pytest.raises(DamagedError, match=r"banana.*correct or delete it with kubectl"):
        store.commit([making(bad)])

    def flag() -> str:
        conditions = lab_cluster.ask("GET", f"{path}/bad").get("status", {}).get("conditions") or ()
        return next(
            (one["message"] for one in conditions if one["type"] == "lab.jumpstarter.dev/Readable"), ""
        )

    reader.settle()
    assert "its duration: 'banana' is not a duration" in flag()
    lab_cluster.ask("PATCH", f"{path}/bad", {"spec": {"duration": "30m"}}, "application/merge-patch+json")
    event = reader.until(lambda one: one.record is not None)
    assert isinstance(event.record, Lease)
    reader.settle()
    assert flag() == ""
    stored = store.read(place)
    assert stored is not None
    assert stored.record == event.record
    assert event.record.duration == 1800.0


def test_a_client_that_somebody_damages_stays_as_it_was(
    lab_cluster: Cluster,
    namespace: str,
    store: KubernetesStore,
    ann: Client,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its leases do not end because of that, and it is not changed before it is repaired."""
    (made,) = store.commit([making(ann)])
    reader = Reader(store)
    path = f"{objects(namespace, 'clients')}/ann"

    def annotate(text: str | None) -> None:
        patch = {"metadata": {"annotations": {"lab.jumpstarter.dev/enabled": text}}}
        lab_cluster.ask("PATCH", path, patch, "application/merge-patch+json")

    annotate("perhaps")
    fill(store, replace(ann, name="bob"))
    assert reader.until(lambda one: True).ref[1].name == "bob"
    with pytest.raises(DamagedError, match=r"ann is not a valid record \(its lab.jumpstarter.dev/enabled"):
        store.read(key_of(ann))
    assert store.snapshot(whole=False).damaged == {key_of(ann)}
    assert "it is not changed, and its previous version stays in use until it is corrected" in caplog.text
    assert "is ignored" not in caplog.text
    with pytest.raises(Conflict):
        store.commit([changing(replace(ann, username="x"), made, Half.SPEC)])
    annotate("false")
    assert reader.of(key_of(ann)).record == replace(ann, enabled=False)


def test_a_lease_that_becomes_unreadable_is_gone(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore
) -> None:
    lab_cluster.ask("POST", objects(namespace), lease_object("one", duration="30m"))
    reader = Reader(store)
    patch = {"spec": {"duration": "banana"}}
    lab_cluster.ask("PATCH", f"{objects(namespace)}/one", patch, "application/merge-patch+json")
    assert reader.of((Lease, Key(namespace, "one"))).stored is None


def test_what_others_have_put_into_an_object_stays_and_what_they_change_is_seen(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore, board: Exporter
) -> None:
    (made,) = store.commit([making(board)])
    reader = Reader(store)
    path = f"{objects(namespace, 'exporters')}/rpi4"
    patch = {
        "metadata": {"annotations": {"team": "kernel"}, "labels": {"rack": "7"}, "finalizers": ["test/hold"]},
        "spec": {"enabled": False},
    }
    lab_cluster.ask("PATCH", path, patch, "application/merge-patch+json")
    theirs = {"status": {"credential": {"name": "rpi4-exporter"}, "lastSeen": "2026-11-28T08:00:00Z"}}
    lab_cluster.ask("PATCH", f"{path}/status", theirs, "application/merge-patch+json")
    with pytest.raises(Conflict):
        store.commit([changing(replace(board, username="x"), made, Half.SPEC)])
    event = reader.until(lambda one: isinstance(one.record, Exporter) and not one.record.enabled)
    stored = store.read(event.ref)
    assert stored is not None
    assert stored.record == replace(board, enabled=False, labels={"board": "rpi4", "rack": "7"})
    assert stored.request == "make"
    now = replace(stored.record, status=ExporterStatus.AVAILABLE, username="ci")
    store.commit(
        [
            Change(event.ref, half, now, stored.revision, f"later-{half.value}")
            for half in (Half.STATUS, Half.SPEC)
        ]
    )
    found = lab_cluster.ask("GET", path)
    assert found["metadata"]["annotations"]["team"] == "kernel"
    assert found["metadata"]["finalizers"] == ["test/hold"]
    assert found["metadata"]["labels"] == {"board": "rpi4", "rack": "7"}
    assert found["spec"] == {"enabled": False, "username": "ci"}
    status = found["status"]
    assert status["credential"] == {"name": "rpi4-exporter"}
    assert (status["lastSeen"], status["exporterStatus"]) == ("2026-11-28T08:00:00Z", "Available")
    managers = {(one["manager"], one.get("subresource", "")) for one in found["metadata"]["managedFields"]}
    assert ("jumpstarter-controller", "status") in managers


def test_a_client_of_kubectl_has_the_uid_of_its_object(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore
) -> None:
    path = objects(namespace, "clients")
    item = {"apiVersion": "jumpstarter.dev/v1alpha1", "kind": "Client", "metadata": {"name": "eve"}}
    uid = lab_cluster.ask("POST", path, item)["metadata"]["uid"]
    stored = store.read((Client, Key(namespace, "eve")))
    assert stored is not None
    assert stored.record.uid == uid
    rotated = replace(stored.record, uid="another")
    (written,) = store.commit([Change(key_of(rotated), Half.SPEC, rotated, stored.revision, "rotate")])
    assert written.revision > stored.revision
    found = lab_cluster.ask("GET", f"{path}/eve")["metadata"]
    assert (found["uid"], found["annotations"]["jumpstarter.dev/migrated-uid"]) == (uid, "another")


def test_an_object_that_waits_for_its_finalizer_is_gone(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore, ann: Client
) -> None:
    (made,) = store.commit([making(ann)])
    path = f"{objects(namespace, 'clients')}/ann"
    patch = {"metadata": {"finalizers": ["test/hold"]}}
    lab_cluster.ask("PATCH", path, patch, "application/merge-patch+json")
    reader = Reader(store)
    lab_cluster.ask("DELETE", path)
    assert reader.of(key_of(ann)).stored is None
    assert store.read(key_of(ann)) is None
    assert not store.snapshot().records
    assert made.revision


def test_every_kind_of_record_is_kept_with_all_that_it_has(store: KubernetesStore, namespace: str) -> None:
    """A field that a schema lacks would be gone."""
    from jumpstarter_controller.lab.tables import KINDS
    from jumpstarter_controller.store.kubernetes.test_mapping import full

    for kind in KINDS:
        record = full(kind, namespace)
        fill(store, record)
        stored = store.read(key_of(record))
        assert stored is not None
        assert replace(stored.record, **({"sequence": 0} if kind is Lease else {})) == record


def test_a_policy_is_one_for_kubectl_and_for_us(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore
) -> None:
    rules = (Rule(clients=("team=a", "ci"), priority=5, maximum_duration=1800.0, description="at night"),)
    fill(store, Policy(namespace=namespace, name="night", uid="p", exporters="board in (a,b)", rules=rules))
    assert lab_cluster.ask("GET", f"{objects(namespace, 'exporteraccesspolicies')}/night")["spec"] == {
        "exporterSelector": {"matchExpressions": [{"key": "board", "operator": "In", "values": ["a", "b"]}]},
        "policies": [
            {
                "description": "at night",
                "priority": 5,
                "maximumDuration": "30m0s",
                "from": [
                    {"clientSelector": {"matchLabels": {"team": "a"}}},
                    {"clientSelector": {"matchExpressions": [{"key": "ci", "operator": "Exists"}]}},
                ],
            }
        ],
    }


def test_records_of_another_namespace_are_refused(store: KubernetesStore, namespace: str) -> None:
    for record in (Client(namespace="elsewhere", name="ann"), Client(namespace="", name="ann")):
        with pytest.raises(StoreError, match=f"are in the namespace {namespace}"):
            store.commit([making(record)])
    store.commit([making(Drain(namespace="", name="lab", reason="new kernel"))])
    assert [one.record.name for one in store.snapshot().records.values()] == ["lab"]


def test_a_name_that_kubernetes_does_not_take_is_a_sentence(store: KubernetesStore, namespace: str) -> None:
    with pytest.raises(StoreError, match=r"Invalid value.*lower case"):
        store.commit([making(Client(namespace=namespace, name="Ann"))])


# Watching


def test_a_version_that_the_server_does_not_know_any_more_is_too_old(store: KubernetesStore) -> None:
    cursor = store.snapshot().cursor
    assert isinstance(cursor, Versions)
    old = Versions(tuple((kind, 1) for kind, _ in cursor.by_kind))
    with pytest.raises(TooOldError):
        Reader(store, old).until(lambda _: False)
    assert not store.watch(store.snapshot().cursor, 0).events


def test_a_watch_that_waits_is_woken(store: KubernetesStore) -> None:
    cursor = store.snapshot().cursor
    store.wake()
    began = time.monotonic()
    assert not store.watch(cursor, LIMIT).events
    assert time.monotonic() - began < LIMIT


def test_a_watch_that_waits_ends_with_its_store(
    lab_cluster: Cluster, faults: Faults, namespace: str, ann: Client
) -> None:
    """Also behind a proxy that closes its connections, as which its answers to watches are."""
    for kubeconfig in (lab_cluster.kubeconfig, faults.kubeconfig):
        store = KubernetesStore(connect(kubeconfig), namespace)
        reader = Reader(store)
        name = f"of-{kubeconfig.name}"
        fill(store, replace(ann, name=name))
        reader.of((Client, Key(namespace, name)))
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < LIMIT


def test_more_than_one_page_is_listed(
    store: KubernetesStore, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [Client(namespace=namespace, name=f"c{number}") for number in range(7)]
    fill(store, *records)
    monkeypatch.setattr(api, "OBJECTS_PER_PAGE", 2)
    assert store.snapshot().records.keys() == {key_of(one) for one in records}


# A server that does not do what it is asked for


@pytest.mark.parametrize("fault", [429, 500, 503, -500, -504, CUT_BEFORE, CUT_AFTER])
def test_a_change_is_made_once_whatever_happens_to_its_requests(
    faults: Faults, shaken: KubernetesStore, store: KubernetesStore, board: Exporter, fault: int
) -> None:
    faults.next = [fault]
    (made,) = shaken.commit([making(board, "one")])
    stored = store.read(key_of(board))
    assert stored is not None
    assert (stored.revision, stored.request, stored.record) == (made.revision, "one", board)
    for request, half in (("two", Half.STATUS), ("three", Half.SPEC)):
        faults.next = [fault]
        board = replace(board, status=ExporterStatus.AVAILABLE, username=request)
        (made,) = shaken.commit([changing(board, made, half, request)])
        stored = store.read(key_of(board))
        assert stored is not None
        assert (stored.revision, stored.request) == (made.revision, request)
    assert stored.record == board
    faults.next = [fault]
    (gone,) = shaken.commit([changing(board, made, Half.SPEC)._replace(record=None)])
    assert gone.revision > made.revision
    assert store.read(key_of(board)) is None


@pytest.mark.parametrize("fault", [-500, CUT_AFTER])
def test_a_change_upon_an_older_one_is_a_conflict_also_where_the_first_answer_got_lost(
    faults: Faults, shaken: KubernetesStore, store: KubernetesStore, board: Exporter, fault: int
) -> None:
    (made,) = store.commit([making(board)])
    store.commit([changing(replace(board, username="theirs"), made, Half.SPEC, "theirs")])
    faults.next = [fault, fault]
    with pytest.raises(Conflict):
        shaken.commit([changing(replace(board, username="ours"), made, Half.SPEC, "ours")])
    stored = store.read(key_of(board))
    assert stored is not None
    assert stored.record == replace(board, username="theirs")


def test_a_server_that_never_says_how_it_went_leaves_it_unknown_behind_what_was_made(
    faults: Faults,
    shaken: KubernetesStore,
    store: KubernetesStore,
    board: Exporter,
    ann: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)
    answers = iter([0, CUT_AFTER])
    faults.always = lambda: next(answers, CUT_BEFORE)
    with pytest.raises(Unknown) as caught:
        shaken.commit([making(ann, "first"), making(board, "second")])
    assert caught.value.ref == key_of(board)
    assert [one.ref for one in caught.value.done] == [key_of(ann)]
    stored = store.read(key_of(board))
    assert stored is not None
    assert stored.request == "second"


def test_a_server_that_is_busy_for_too_long_is_a_sentence_and_nothing_was_changed(
    faults: Faults,
    shaken: KubernetesStore,
    store: KubernetesStore,
    ann: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)
    faults.always = lambda: 429
    with pytest.raises(StoreError, match=r"does not answer \(a fault of the test, request \d+\); check it"):
        shaken.commit([making(ann)])
    assert store.read(key_of(ann)) is None
    with pytest.raises(StoreError, match="does not answer"):
        shaken.snapshot()


def test_a_server_that_is_away_is_asked_once_until_it_answers(
    faults: Faults, shaken: KubernetesStore, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)
    faults.always = lambda: 503
    for _ in range(2):
        faults.seen.clear()
        with pytest.raises(StoreError):
            shaken.read(key_of(ann))
    assert len(faults.seen) == 1
    faults.always = lambda: 0
    assert shaken.read(key_of(ann)) is None
    answers = iter([503])
    faults.always = lambda: next(answers, 0)
    assert shaken.read(key_of(ann)) is None


def test_no_server_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with (
        closing(KubernetesStore(connect(tmp_path / "kubeconfig"), "lab")) as store,
        pytest.raises(StoreError, match=r"API server at https://127.0.0.1:1 does not answer .*refused"),
    ):
        store.snapshot()


@pytest.mark.parametrize("text", ["", "[]", "apiVersion: v1", "{", "current-context: nowhere"])
def test_a_kubeconfig_that_is_none_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(StoreError, match="the way to the API server is not known"):
        connect(tmp_path / "kubeconfig")


def test_who_may_not_read_is_told_which_verb_is_missing(lab_cluster: Cluster, namespace: str) -> None:
    with (
        closing(KubernetesStore(connect(lab_cluster.kubeconfig, "alice"), namespace)) as store,
        pytest.raises(
            StoreError, match=r'User "alice" cannot list resource "clients".*give its user the role'
        ),
    ):
        store.snapshot()


def test_a_pod_uses_its_account_and_its_namespace(
    lab_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab_cluster.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "it"}})
    lab_cluster.kubectl("apply", "-n", namespace, "-f", str(DEFINITIONS.parent / "role.yaml"))
    account = f"--serviceaccount={namespace}:it"
    lab_cluster.kubectl(
        "create", "rolebinding", "it", "--role=jumpstarter-controller", account, "-n", namespace
    )
    asked = f"/api/v1/namespaces/{namespace}/serviceaccounts/it/token"
    token = lab_cluster.ask("POST", asked, {"spec": {}})["status"]["token"]
    config = json.loads(lab_cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    (tmp_path / "token").write_text(token)
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(config["certificate-authority-data"]))
    monkeypatch.setattr(api, "ACCOUNT", tmp_path)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(lab_cluster.port))
    found = connect(None)
    assert found.namespace == namespace
    ann = Client(namespace=namespace, name="ann")
    with closing(KubernetesStore(found, namespace)) as store:
        store.commit([making(ann)])
        assert store.snapshot().records.keys() == {key_of(ann)}

    monkeypatch.setattr(api, "RELOAD_SECONDS", 0.0)
    (tmp_path / "token").write_text("one-that-has-ended")
    with closing(KubernetesStore(connect(None), namespace)) as store:
        with pytest.raises(StoreError, match="refuses the controller: Unauthorized; renew its token"):
            store.snapshot()
        (tmp_path / "token").write_text(token)  # as a Pod's is replaced before it ends
        cursor = store.snapshot().cursor
        assert store.snapshot().records.keys() == {key_of(ann)}
        store.watch(cursor, 0.0)


def test_a_kubeconfig_whose_token_has_ended_is_read_again(
    lab_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "RELOAD_SECONDS", 0.0)
    text = lab_cluster.kubeconfig.read_text()
    config = json.loads(text)
    for one in config["users"]:
        one["user"]["token"] = "ended"
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(config))
    with closing(KubernetesStore(connect(file), namespace)) as store:
        with pytest.raises(StoreError, match="Unauthorized"):
            store.snapshot()
        file.write_text(text)
        assert not store.snapshot().records


@contextmanager
def own_server(programs: Path, folder: Path) -> Iterator[ApiServer]:
    server = ApiServer(programs, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_a_server_without_our_definitions_is_a_sentence_and_one_that_comes_back_is_followed(
    kube_programs: Path, lab_cluster: Cluster, tmp_path: Path
) -> None:
    with own_server(kube_programs, tmp_path / "server") as server:
        namespace = server.cluster.make_namespace()
        with closing(KubernetesStore(connect(server.cluster.kubeconfig), namespace)) as store:
            with pytest.raises(StoreError, match="apply the definitions in deploy/crds"):
                store.snapshot()
            define_all(server.cluster)
            ann = Client(namespace=namespace, name="ann")
            fill(store, ann)
            reader = Reader(store)
            fill(store, Client(namespace=namespace, name="bob"))
            reader.of((Client, Key(namespace, "bob")))
            server.kill("kube-apiserver")
            server.start()
            fill(store, Client(namespace=namespace, name="eve"))
            known = set(store.snapshot().records)
            assert {place[1].name for place in known} == {"ann", "bob", "eve"}
            fill(store, Client(namespace=namespace, name="fay"))
            reader.of((Client, Key(namespace, "fay")))


def test_an_exporters_devices_are_listed_in_its_object_whenever_its_status_is_written(
    lab_cluster: Cluster, namespace: str, store: KubernetesStore, board: Exporter
) -> None:
    path = f"{objects(namespace, 'exporters')}/rpi4"
    power = ReportedDevice("rpi4.power", "power", "a.Power", uuid="2")
    devices = ExporterDevices(
        namespace=namespace, name="rpi4", devices=(ReportedDevice("rpi4", uuid="1"), power)
    )
    fill(store, board, devices)
    for number, status in enumerate((ExporterStatus.AVAILABLE, ExporterStatus.LEASE_READY)):
        stored = store.read(key_of(board))
        assert stored is not None
        there = replace(board, devices=3, status=status)
        store.commit([Change(key_of(board), Half.STATUS, there, stored.revision, f"report-{number}")])
        listed = lab_cluster.ask("GET", path)["status"]["devices"]
        assert [one["uuid"] for one in listed] == ["1", "2"]
        assert listed[1]["parent_uuid"] == "1"
        found = store.read(key_of(board))
        assert found is not None
        assert found.record == there, "the root is counted, too"
    gone = replace(board, devices=0, status=ExporterStatus.OFFLINE)
    store.commit([Change(key_of(board), Half.STATUS, gone, found.revision, "leave")])
    assert "devices" not in lab_cluster.ask("GET", path)["status"]
    after = store.read(key_of(board))
    assert after is not None
    assert after.record == gone


# Many at once


def leases_of(namespace: str, count: int) -> list[Change]:
    return [
        making(
            Lease(namespace=namespace, name=f"l{number:02}", client="ann", selector="a=b", duration=60.0)
        )._replace(stage=4)
        for number in range(count)
    ]


def test_changes_of_a_stage_are_sent_at_the_same_time_within_a_bound(
    namespace: str, shaken: KubernetesStore, faults: Faults
) -> None:
    together = threading.Barrier(MAX_WRITES, timeout=100)
    lock, here, most = threading.Lock(), 0, 0

    def hold(method: str, _path: str) -> int:
        nonlocal here, most
        if method == "POST":
            with lock:
                here, most = here + 1, max(most, here + 1)
            together.wait()
            with lock:
                here -= 1
        return PASS

    changes = leases_of(namespace, 2 * MAX_WRITES)
    faults.refuses = hold
    done = shaken.commit(changes)
    assert most == MAX_WRITES
    assert [one.ref for one in done] == [one.ref for one in changes]
    ages = [one.age for one in done]
    assert ages == sorted(set(ages)), "the first request is older, whichever was written first"


def test_of_a_stage_it_is_said_which_were_made(
    namespace: str, shaken: KubernetesStore, faults: Faults
) -> None:
    changes = leases_of(namespace, MAX_WRITES)
    shaken.commit(changes[2:3])
    with pytest.raises(Conflict) as conflict:
        shaken.commit(changes)
    assert conflict.value.ref == changes[2].ref
    made = [change.ref for change, one in zip(changes, conflict.value.done, strict=False) if one is not None]
    assert set(shaken.snapshot().records) == {*made, changes[2].ref}
    faults.always = lambda: CUT_BEFORE
    shaken.expect_no_answer()
    before = len(faults.seen)
    with pytest.raises(Unknown) as unknown:
        shaken.commit(leases_of(namespace, 50)[20:])
    assert unknown.value.done == ()
    assert len(faults.seen) - before == 1 + len(unknown.value.also)
    assert len(unknown.value.also) < MAX_WRITES, "when one is not answered, no more are sent"
