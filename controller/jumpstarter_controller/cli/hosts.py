"""What `admin host` and `admin pair host` do."""

from __future__ import annotations

from pathlib import Path

from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.terminal import print_line

from jumpstarter_controller.cli import objects
from jumpstarter_controller.cli.admin_call import CALL_SECONDS, call_admin
from jumpstarter_controller.services.host_boards import USUAL_KEYS

__all__ = ["change", "pair", "revoke"]


def pair(
    name: str,
    namespace: str,
    labels: list[str],
    *,
    may_label: list[str],
    may_not_label: list[str],
    valid: str,
    renew: bool,
    output: str,
    data: Path | None,
) -> int:
    """Make a pairing code for a host, and print it with what to type there."""
    if renew and (labels or may_label or may_not_label):
        raise objects.OptionError(
            f"a new token changes no labels; that does: jumpstarter-controller admin host change {name}"
        )
    granted = [] if renew else sorted({*USUAL_KEYS, *may_label} - {*may_not_label})
    return objects.pair(
        Kind.HOST,
        name,
        namespace,
        labels,
        may_label=granted,
        valid=valid,
        renew=renew,
        output=output,
        data=data,
    )


def revoke(name: str, namespace: str, *, data: Path | None) -> int:
    """Take a host's token away, and with it its boards'."""
    request = lab_pb2.ObjectRequest(kind=Kind.HOST.value, namespace=namespace, name=name)
    call_admin(data, lambda stub: stub.Rotate(request, timeout=CALL_SECONDS))
    print_line(
        f"the token of host {namespace}/{name} and those of its boards are no longer valid; to let it in again: "
        f"jumpstarter-controller admin pair host {name} --renew"
    )
    return 0


def change(
    name: str,
    namespace: str,
    *,
    labels: list[str],
    no_labels: list[str],
    may_label: list[str],
    may_not_label: list[str],
    data: Path | None,
) -> int:
    """Change which labels a host's boards have, and which it may set."""
    request = lab_pb2.ListRequest(kind=Kind.HOST.value, namespace=namespace)
    reply = call_admin(data, lambda stub: stub.List(request, timeout=CALL_SECONDS))
    host = next((one for one in reply.objects if one.name == name), None)
    if host is None:
        raise RpcError(
            StatusCode.NOT_FOUND,
            f"there is no host {namespace}/{name}; see which there are: jumpstarter-controller admin host list",
        )
    kept = {key: value for key, value in host.labels.items() if key not in no_labels}
    wanted = lab_pb2.ChangeHostRequest(
        namespace=namespace,
        name=name,
        labels=kept | objects.labels_of(labels),
        may_label=sorted({*host.may_label, *may_label} - {*may_not_label}),
    )
    changed = call_admin(data, lambda stub: stub.ChangeHost(wanted, timeout=CALL_SECONDS))
    said = ",".join(f"{key}={value}" for key, value in sorted(changed.labels.items())) or "none of the lab's"
    print_line(
        f"host {namespace}/{name}: labels of its boards: {said}; it may set: {', '.join(changed.may_label) or 'none'}"
    )
    return 0
