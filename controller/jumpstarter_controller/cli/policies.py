"""What `admin policy` does, through the controller's own service."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.terminal import print_error_line, print_line, print_text
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_controller.cli.admin_call import CALL_SECONDS, call_admin
from jumpstarter_controller.cli.policy_documents import as_data, fault_of, read_policies, written

__all__ = ["apply", "delete", "listing"]

MAX_FILE_BYTES = 1024 * 1024


def apply(file: str, namespace: str, *, data: Path | None) -> int:
    """Make the lab's policies as a file says, or standard input for `-`."""
    policies = read_policies(Path("<stdin>"), _stdin(), namespace) if file == "-" else None
    if policies is None:
        policies = read_policies(Path(file), None, namespace)
    if not policies:
        raise ConfigError("it contains no policy; a policy begins with `apiVersion:`", file=Path(file))
    request = pb.ApplyPoliciesRequest(policies=policies)
    reply = call_admin(data, lambda stub: stub.ApplyPolicies(request, timeout=CALL_SECONDS))
    for policy, outcome in zip(policies, reply.outcomes, strict=True):
        print_line(f"policy {policy.namespace}/{policy.name} {outcome}")
    return 0


def _stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(raw) > MAX_FILE_BYTES:
        raise ConfigError(
            "this is not UTF-8 text of at most 1 MiB; check that it is YAML", file=Path("<stdin>")
        )
    return text


def listing(namespace: str, output: str, *, data: Path | None) -> int:
    """Show all policies; as YAML they can be applied again. Those of another program that cannot be read are named."""
    request = pb.ListPoliciesRequest(namespace=namespace)
    reply = call_admin(data, lambda stub: stub.ListPolicies(request, timeout=CALL_SECONDS))
    policies = list(reply.policies)
    faults = {(one.namespace, one.name): found for one in policies if (found := fault_of(one))}
    sound = [one for one in policies if (one.namespace, one.name) not in faults]
    match output:
        case "yaml":
            print_text(written(sound))
        case "json":
            print_text(json.dumps({"policies": [as_data(policy) for policy in sound]}, indent=2) + "\n")
        case "name":
            for policy in policies:
                print_line(policy.name)
        case _ if not policies:
            print_error_line(
                "no policies: every client may lease every exporter; `jumpstarter-controller admin policy apply FILE` "
                "makes some"
            )
        case _:
            for policy in policies:
                print_line(f"{policy.namespace}  {policy.name}  {policy.exporters or 'all exporters'}")
                for rule in policy.rules:
                    print_line(f"    {_rule(rule)}")
    for (of, name), fault in faults.items():
        left_out = " and is left out" if output in {"yaml", "json"} else ""
        print_error_line(
            f"policy {of}/{name} has a selector that cannot be read{left_out}: {fault}; it lets nobody in by it: "
            "apply the policy again with a correct one"
        )
    return ExitCode.FAILED if faults else ExitCode.OK


def _rule(rule: pb.PolicyRule) -> str:
    who = " or ".join(one or "everybody" for one in rule.clients) or "nobody"
    words = [who, f"priority {rule.priority}"]
    if rule.HasField("maximum_duration"):
        words.append(f"at most {rule.maximum_duration:g} s")
    if rule.description:
        words.append(f"({rule.description})")
    return "  ".join(words)


def delete(name: str, namespace: str, *, data: Path | None) -> int:
    """Delete a policy."""
    request = pb.DeletePolicyRequest(namespace=namespace, name=name)
    reply = call_admin(data, lambda stub: stub.DeletePolicy(request, timeout=CALL_SECONDS))
    print_line(f"policy {namespace}/{name} deleted")
    if not reply.left:
        print_line(f"{namespace} has no policy any more: every client may lease every exporter there")
    return 0
