"""What `admin client`, `admin exporter` and `admin host` do, through the controller's own service."""

from __future__ import annotations

import base64
import json
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from jumpstarter_proto.durations import parse_duration
from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.lab.v1 import lab_pb2
from jumpstarter_proto.private_files import write_private
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.remote.enrolment import Membership
from jumpstarter_proto.rpc import RpcError, StatusCode
from jumpstarter_proto.terminal import print_error_line, print_line, print_text
from jumpstarter_proto.yaml_files import load_text, set_values

from jumpstarter_controller.cli.admin_call import CALL_SECONDS, call_admin

__all__ = [
    "OptionError",
    "configuration",
    "create",
    "delete",
    "labels_of",
    "listing",
    "pair",
    "rotate",
    "set_enabled",
]


class OptionError(JumpstarterError):
    """The command line is wrong."""

    exit_code = ExitCode.USAGE


def create(
    kind: Kind,
    name: str,
    namespace: str,
    labels: list[str],
    *,
    username: str,
    save: Path | None,
    data: Path | None,
) -> int:
    """Make an object and save its configuration; one of another issuer's user needs none."""
    if save is None and not username:
        raise OptionError(
            f"where is the configuration to go? --save {name}.yaml; or use `admin pair {kind.lower()} {name}`"
        )
    request = lab_pb2.CreateRequest(
        kind=kind.value, namespace=namespace, name=name, labels=labels_of(labels), username=username
    )
    if save is not None:
        _check_place(kind, save)
    credential = call_admin(data, lambda stub: stub.Create(request, timeout=CALL_SECONDS))
    if save is not None:
        _save(kind, save, credential)
    else:
        print_line(
            f"{kind} {namespace}/{name} is {username}; they log in: jumpstarter login {credential.endpoint}"
        )
    return 0


def rotate(kind: Kind, name: str, namespace: str, *, save: Path, data: Path | None) -> int:
    """Make a new token and save the configuration."""
    request = lab_pb2.ObjectRequest(kind=kind.value, namespace=namespace, name=name)
    _check_place(kind, save)
    _save(kind, save, call_admin(data, lambda stub: stub.Rotate(request, timeout=CALL_SECONDS)))
    return 0


def delete(kind: Kind, name: str, namespace: str, *, data: Path | None) -> int:
    """Delete an object."""
    request = lab_pb2.ObjectRequest(kind=kind.value, namespace=namespace, name=name)
    call_admin(data, lambda stub: stub.Delete(request, timeout=CALL_SECONDS))
    print_line(f"{kind} {namespace}/{name} deleted")
    return 0


def set_enabled(kind: Kind, name: str, namespace: str, *, enabled: bool, data: Path | None) -> int:
    """Enable or disable an object."""
    request = lab_pb2.SetEnabledRequest(kind=kind.value, namespace=namespace, name=name, enabled=enabled)
    call_admin(data, lambda stub: stub.SetEnabled(request, timeout=CALL_SECONDS))
    print_line(f"{kind} {namespace}/{name} {'enabled' if enabled else 'disabled'}")
    return 0


def listing(kind: Kind, namespace: str, output: str, *, data: Path | None) -> int:
    """Show all objects of a kind."""
    request = lab_pb2.ListRequest(kind=kind.value, namespace=namespace)
    reply = call_admin(data, lambda stub: stub.List(request, timeout=CALL_SECONDS))
    rows: list[dict[str, Any]] = [
        {
            "namespace": one.namespace,
            "name": one.name,
            "enabled": one.enabled,
            "labels": dict(one.labels),
            **_more(kind, one),
        }
        for one in reply.objects
    ]
    if output == "json":
        print_text(json.dumps({f"{kind.lower()}s": rows}, indent=2) + "\n")
    elif output == "yaml":
        print_text(yaml.safe_dump({f"{kind.lower()}s": rows}, sort_keys=False))
    elif output == "name":
        for row in rows:
            print_line(row["name"])
    elif not rows:
        word = kind.lower()
        print_error_line(f"no {word}s; `jumpstarter-controller admin pair {word} NAME` lets one in")
    else:
        for row in rows:
            labels = ",".join(f"{key}={value}" for key, value in sorted(row["labels"].items()))
            words = [
                row["namespace"],
                row["name"],
                "" if row["enabled"] else "disabled",
                f"gone since {row['gone_since']}" if row.get("gone_since") else row.get("status", ""),
                labels,
                *([f"may set: {','.join(row['may_label'])}"] if row.get("may_label") else ()),
                *([f"boards: {','.join(row['boards'])}"] if row.get("boards") else ()),
            ]
            print_line("  ".join(word for word in words if word))
    return 0


def _more(kind: Kind, one: lab_pb2.Object) -> dict[str, Any]:
    """What only objects of that kind have."""
    match kind:
        case Kind.EXPORTER:
            more: dict[str, Any] = {"status": one.status} if one.status else {}
            if one.host:
                more["host"] = one.host
            if one.HasField("gone_since"):
                more["gone_since"] = datetime.fromtimestamp(one.gone_since.ToSeconds(), UTC).isoformat()
            return more
        case Kind.HOST:
            return {"may_label": list(one.may_label), "boards": list(one.boards)}
        case _:
            return {}


def pair(
    kind: Kind,
    name: str,
    namespace: str,
    labels: list[str],
    *,
    may_label: Sequence[str] = (),
    valid: str,
    renew: bool,
    output: str,
    data: Path | None,
) -> int:
    """Make a pairing code, and print it with what to type on the other machine."""
    request = lab_pb2.PairRequest(
        kind=kind.value,
        namespace=namespace,
        name=name,
        labels=labels_of(labels),
        may_label=may_label,
        seconds=parse_duration(valid),
        renew=renew,
    )
    offer = call_admin(data, lambda stub: stub.Pair(request, timeout=CALL_SECONDS))
    end = datetime.fromtimestamp(offer.expires.ToSeconds(), UTC)
    command = ["jumpstarter", "login"] if kind is Kind.CLIENT else ["jumpstarter-exporter", "enrol"]
    command += [offer.endpoint] + (["--pairing-code"] if kind is Kind.CLIENT else [])
    command += ["--tls-fingerprint", offer.fingerprint]
    if output == "json":
        described = {
            "kind": kind.value,
            "namespace": namespace,
            "name": name,
            "code": offer.code,
            "expires": end.isoformat(),
            "endpoint": offer.endpoint,
            "fingerprint": offer.fingerprint,
            "command": command,
        }
        print_text(json.dumps(described, indent=2) + "\n")
        return 0
    where = f"On the host of {name}" if kind is Kind.EXPORTER else f"On {name}'s machine"
    until = end.astimezone().strftime("%H:%M:%S")
    if kind is Kind.HOST:
        card = {"endpoint": offer.endpoint, "fingerprint": offer.fingerprint, "pairingCode": offer.code}
        # They begin where they do in the file, so that they can be copied as they are.
        lines = "".join(f"{key}: {value}\n" for key, value in card.items())
        print_text(f"If {name} has our image, until {until}, in `jumpstarter.yaml` on the card:\n\n{lines}\n")
        where = "On a host without our image"
    print_text(
        f"{where}, until {until}:\n\n    {shlex.join(command)}\n\n"
        f"It asks for the pairing code, which is good once:\n\n    {offer.code}\n"
    )
    return 0


def labels_of(texts: list[str]) -> dict[str, str]:
    """Labels from KEY=VALUE. RpcError INVALID_ARGUMENT for one that is written otherwise."""
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise RpcError(StatusCode.INVALID_ARGUMENT, f"--label {text}: write it as KEY=VALUE")
        labels[key] = value
    return labels


def _check_place(kind: Kind, path: Path) -> None:
    """Before a token is made that would have nowhere to go. OptionError if a configuration cannot be saved there."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise OptionError(
            f"{path} cannot be written: {path.parent} has to be a folder that you may write to; choose another place"
        )
    if not path.exists():
        return
    try:
        there = load_text(path.read_text(encoding="utf-8")) or {}
        fits = isinstance(there, dict) and there.get("kind", f"{kind}Config") == f"{kind}Config"
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        fits = False
    if not fits:
        raise OptionError(
            f"{path} is there, but not as a configuration for this {kind.lower()}; name another file"
        )


def _save(kind: Kind, path: Path, credential: lab_pb2.Credential) -> None:
    write_private(path, _filled_in(kind, path, credential).encode())
    print_line(f"{path}: the configuration of {kind.lower()} {credential.namespace}/{credential.name}")


def _filled_in(kind: Kind, path: Path, credential: lab_pb2.Credential) -> str:
    """A new configuration, or the one that is there with what is new in it: its devices and comments stay."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if not before.strip():
        return yaml.safe_dump(configuration(kind, credential), sort_keys=False)
    identity = Identity(kind, credential.namespace, credential.name, credential.token)
    trust = Trust(ca=base64.b64encode(credential.ca.encode()).decode())
    return set_values(before, Membership(credential.endpoint, identity, trust).changes())


def configuration(kind: Kind, credential: lab_pb2.Credential) -> dict[str, Any]:
    """The content of a configuration file, with the keys of Jumpstarter's own files."""
    shared = {
        "apiVersion": "jumpstarter.dev/v1alpha1",
        "kind": f"{kind}Config",
        "metadata": {"namespace": credential.namespace, "name": credential.name},
        "endpoint": credential.endpoint,
        "tls": {"ca": base64.b64encode(credential.ca.encode()).decode(), "insecure": False},
        "token": credential.token,
        "grpcOptions": {},
    }
    if kind is Kind.CLIENT:
        return shared | {"drivers": {"allow": ["jumpstarter_driver_*"], "unsafe": False}}
    return shared | {"export": {}}
