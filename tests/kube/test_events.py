"""What `kubectl describe` and labels say of a lab."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from jumpstarter_controller.lab import Client, Exporter, ExporterStatus, Key, Lease
from jumpstarter_controller.store import Change
from jumpstarter_controller.store.contract import Half, key_of
from jumpstarter_controller.store.kubernetes import EventRecorder, KubernetesStore, connect
from jumpstarter_controller.store.kubernetes import events as module
from jumpstarter_controller.store.kubernetes.events import CLOSE_SECONDS, OBJECT_BURST
from msgspec.structs import replace

from tests.kube.conftest import DEFINITIONS
from tests.kube.faulty import faulty
from tests.kube.server.cluster import Cluster
from tests.kube.test_lease import KubeLab


@pytest.fixture(scope="module")
def lab(lab_cluster: Cluster) -> Iterator[KubeLab]:
    with KubeLab.opened(cluster=lab_cluster) as lab:
        lab.exporter("one")
        lab.client("ann")
        yield lab


def events(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.ask("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return found


def described(lab: KubeLab, kind: str, name: str) -> str:
    return lab.kubectl("describe", f"{kind}.jumpstarter.dev", name).partition("Events:")[2]


def test_kubectl_describe_tells_the_story_of_a_lease(lab: KubeLab) -> None:
    ann = lab.home / "ann.yaml"
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "mine", "--client", ann)
    lab.ok("lease", "release", "mine", "--client", ann)
    lab.until(lambda: "LeaseEnded" in described(lab, "leases", "mine"))
    story = described(lab, "leases", "mine")
    assert "Normal  LeaseAcquired" in story
    assert "Client ann has exporter one" in story
    lab.refused("lease", "create", "-l", "board=none", "--lease-id", "refused", "--client", ann)
    lab.until(lambda: "Warning  LeaseRefused" in described(lab, "leases", "refused"))
    lab.until(lambda: "CredentialCreated" in described(lab, "clients", "ann"))
    lab.until(lambda: "ExporterOnline" in described(lab, "exporters", "one"))
    assert "ExporterRegistered" in described(lab, "exporters", "one")


def test_ended_leases_have_the_label_by_which_jumpstarters_tools_leave_them_out(lab: KubeLab) -> None:
    ann = lab.home / "ann.yaml"

    def labelled() -> list[str]:
        return lab.kubectl("get", "jl", "-l", "jumpstarter.dev/lease-ended=true", "-o", "name").split()

    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "short", "--client", ann)
    assert "lease.jumpstarter.dev/short" not in labelled()
    # It ends because its time is over, of which no spec says anything.
    lab.kubectl("patch", "jl", "short", "--type=merge", "-p", '{"spec": {"duration": "1s"}}')
    lab.until(lambda: "lease.jumpstarter.dev/short" in labelled())
    lab.ok("lease", "create", "-l", "board=rpi4", "--lease-id", "next", "--client", ann)
    lab.ok("lease", "release", "next", "--client", ann)
    lab.until(lambda: "lease.jumpstarter.dev/next" in labelled())
    assert lab.object("leases", "next")["metadata"]["labels"]["board"] == "rpi4"


def test_an_exporter_that_flaps_has_few_events(lab_cluster: Cluster, namespace: str) -> None:
    api = connect(lab_cluster.kubeconfig)
    with closing(KubernetesStore(api, namespace, events=EventRecorder(api, namespace))) as store:
        exporter = Exporter(namespace=namespace, name="one")
        (made,) = store.commit([Change(key_of(exporter), Half.SPEC, exporter, None)])
        revision = made.revision
        flaps = 2 * int(OBJECT_BURST)
        for number in range(flaps):
            status = ExporterStatus.OFFLINE if number % 2 else ExporterStatus.AVAILABLE
            exporter = replace(exporter, status=status)
            (made,) = store.commit([Change(key_of(exporter), Half.STATUS, exporter, revision)])
            revision = made.revision
    found = events(lab_cluster, namespace)
    assert {one["reason"]: one["count"] for one in found} == {
        "ExporterOnline": pytest.approx(OBJECT_BURST / 2, abs=1),
        "ExporterOffline": pytest.approx(OBJECT_BURST / 2, abs=1),
    }
    assert sum(one["count"] for one in found) == OBJECT_BURST
    uid = lab_cluster.ask("GET", f"/apis/jumpstarter.dev/v1alpha1/namespaces/{namespace}/exporters/one")
    assert {one["involvedObject"]["uid"] for one in found} == {uid["metadata"]["uid"]}


def test_an_event_that_was_deleted_is_told_anew(lab_cluster: Cluster, namespace: str) -> None:
    api = connect(lab_cluster.kubeconfig)
    with closing(KubernetesStore(api, namespace, events=EventRecorder(api, namespace))) as store:
        exporter = Exporter(namespace=namespace, name="one")
        (made,) = store.commit([Change(key_of(exporter), Half.SPEC, exporter, None)])
        for status in (ExporterStatus.AVAILABLE, ExporterStatus.OFFLINE, ExporterStatus.AVAILABLE):
            exporter = replace(exporter, status=status)
            (made,) = store.commit([Change(key_of(exporter), Half.STATUS, exporter, made.revision)])
            if status is ExporterStatus.OFFLINE:
                while {one["reason"] for one in events(lab_cluster, namespace)} < {
                    "ExporterOnline",
                    "ExporterOffline",
                }:
                    time.sleep(0.02)
                for one in events(lab_cluster, namespace):
                    name = one["metadata"]["name"]
                    lab_cluster.ask("DELETE", f"/api/v1/namespaces/{namespace}/events/{name}")
    assert [one["reason"] for one in events(lab_cluster, namespace)] == ["ExporterOnline"]


def test_a_server_that_takes_no_events_is_in_nobodys_way(
    lab_cluster: Cluster, namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with faulty(lab_cluster, tmp_path) as proxy:
        held = threading.Event()
        proxy.refuses = lambda _, path: (held.wait(60) and 0) or 403 if path.endswith("/events") else 0
        api = connect(proxy.kubeconfig)
        store = KubernetesStore(api, namespace, events=EventRecorder(api, namespace))
        lease = Lease(namespace=namespace, name="mine", client="ann", exporter_name="one", duration=60.0)
        place = key_of(lease)
        try:
            (made,) = store.commit([Change(place, Half.SPEC, lease, None)])
            begun = replace(lease, exporter="one", begun=1.0)
            (made,) = store.commit([Change(place, Half.STATUS, begun, made.revision)])
            stored = store.read((Lease, Key(namespace, "mine")))
            assert stored is not None
            assert stored.record == replace(begun, sequence=made.age)
        finally:
            began = time.monotonic()
            store.close()
            taken = time.monotonic() - began
            held.set()
    assert taken < CLOSE_SECONDS + 2
    assert events(lab_cluster, namespace) == []


def test_who_may_not_write_events_is_told_once_and_leases_go_on(lab_cluster: Cluster, tmp_path: Path) -> None:
    config = json.loads(lab_cluster.kubeconfig.read_text()) | {"current-context": "alice"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(config))

    class AlicesLab(KubeLab):
        def start_controller(self, *options: str) -> Any:
            role = yaml.safe_load((DEFINITIONS.parent / "role.yaml").read_text())
            role["rules"] = [one for one in role["rules"] if one["resources"] != ["events"]]
            self.kubectl("apply", "-f", "-", input=yaml.safe_dump(role))
            self.kubectl("create", "rolebinding", "it", "--role=jumpstarter-controller", "--user=alice")
            admin, self.cluster = self.cluster, Cluster(kubeconfig, lab_cluster.programs)
            daemon = super().start_controller(*options)
            self.cluster = admin
            return daemon

    with AlicesLab.opened(cluster=lab_cluster) as lab:
        lab.exporter("one")
        lab.ok("power", "on", "-l", "board=rpi4", "--client", lab.client("ann"))
        lab.until(lambda: lab.status("one") == "AVAILABLE")
        log = lab.controller.log.read_text()
        assert log.count("Events cannot be written") == 1
        assert 'cannot create resource "events"' in log


@pytest.fixture
def flap(lab_cluster: Cluster, namespace: str) -> Iterator[Callable[[str], None]]:
    """Have an exporter come and go."""
    api = connect(lab_cluster.kubeconfig)
    revisions: dict[str, int] = {}
    with closing(KubernetesStore(api, namespace, events=EventRecorder(api, namespace))) as store:

        def change(name: str) -> None:
            exporter = Exporter(namespace=namespace, name=name)
            if name not in revisions:
                (made,) = store.commit([Change(key_of(exporter), Half.SPEC, exporter, None)])
                revisions[name] = made.revision
            for status in (ExporterStatus.AVAILABLE, ExporterStatus.OFFLINE):
                changed = replace(exporter, status=status)
                (made,) = store.commit([Change(key_of(exporter), Half.STATUS, changed, revisions[name])])
                revisions[name] = made.revision

        yield change


def counts(cluster: Cluster, namespace: str, name: str) -> list[int]:
    """How often each Event of an object says that it has happened, when they are all there."""
    found: list[int] = []
    due = time.monotonic() + 30
    while time.monotonic() < due:
        items = [one for one in events(cluster, namespace) if one["involvedObject"]["name"] == name]
        found = sorted(one["count"] for one in items)
        if sum(found) == 4:
            break
        time.sleep(0.02)
    return found


def test_what_happens_again_is_counted_for_a_while(
    lab_cluster: Cluster, namespace: str, flap: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    flap("one")
    flap("one")
    assert counts(lab_cluster, namespace, "one") == [2, 2]
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.0)
    flap("two")
    flap("two")
    assert counts(lab_cluster, namespace, "two") == [1, 1, 1, 1]


def test_of_some_objects_it_is_known_what_was_told(
    lab_cluster: Cluster, namespace: str, flap: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    monkeypatch.setattr(module, "OBJECT_BURST", 2)
    for name in ("one", "two", "three", "one", "two", "three"):
        flap(name)  # each time two Events, which is all that there is room for
    for name in ("one", "two", "three"):
        assert counts(lab_cluster, namespace, name) == [1, 1, 1, 1]


def test_so_many_changes_wait_to_be_told(
    lab_cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    with faulty(lab_cluster, tmp_path) as proxy:
        held, asked = threading.Event(), threading.Event()

        def hold(_: str, path: str) -> int:
            if path.endswith("/events"):
                asked.set()
                held.wait(60)
            return 0

        proxy.refuses = hold
        api = connect(proxy.kubeconfig)
        with closing(KubernetesStore(api, namespace, events=EventRecorder(api, namespace))) as store:
            for number in range(6):
                client = Client(namespace=namespace, name=f"c{number}", uid=str(number))
                store.commit([Change(key_of(client), Half.SPEC, client, None)])
                assert asked.wait(60)
            held.set()
    assert len(events(lab_cluster, namespace)) == 3, "one that was being told, and those that waited"
