"""Access policies as people write them: ExporterAccessPolicy documents as in Kubernetes, read strictly, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jumpstarter_proto.durations import TimeFormatError, parse_go_duration
from jumpstarter_proto.lab.v1 import lab_pb2 as pb
from jumpstarter_proto.texts import shown
from jumpstarter_proto.yaml_files import Document, PathInFile, check_keys, check_value

from jumpstarter_controller.selectors import (
    Operator,
    Requirement,
    Selector,
    SelectorError,
    check_labels,
)
from jumpstarter_controller.selectors.label_selector import label_selector
from jumpstarter_controller.selectors.labels import LabelError

__all__ = ["as_data", "fault_of", "read_policies", "written"]

API_VERSION = "jumpstarter.dev/v1alpha1"
KIND = "ExporterAccessPolicy"
PRIORITIES = range(-(2**31), 2**31)
_TOP = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_METADATA = frozenset({"name", "namespace", "labels", "annotations"})
_RULE = frozenset({"description", "priority", "from", "maximumDuration", "spotAccess"})
_OPERATORS = {
    one.value: one for one in (Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST)
}


def read_policies(file: Path, text: str | None, namespace: str) -> list[pb.Policy]:
    """Every policy of a file, or of `text` that came from there; `namespace` is for those that name none.

    Raises:
        ConfigError: says what is wrong with which, and at which line.
    """
    found: list[pb.Policy] = []
    for document in Document.load_all(file, "apiVersion", text):
        policy = _policy(document, namespace)
        if any((one.namespace, one.name) == (policy.namespace, policy.name) for one in found):
            raise document.error(
                ("metadata", "name"), f"policy {policy.name} is there twice; put its rules into one document"
            )
        found.append(policy)
    return found


def _policy(document: Document, namespace: str) -> pb.Policy:
    data = document.data
    check_keys(document, data, _TOP, ())
    for key, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if data.get(key) != wanted:
            at: PathInFile = (key,) if key in data else ()
            raise document.error(at, f"`{key}` has to be {wanted}")
    metadata = _mapping(document, data.get("metadata"), ("metadata",))
    check_keys(document, metadata, _METADATA, ("metadata",))
    names = {
        "name": _text(document, metadata.get("name"), ("metadata", "name")),
        "namespace": _text(document, metadata.get("namespace", namespace), ("metadata", "namespace")),
    }
    for key, name in names.items():
        try:
            check_labels({name: ""})
        except LabelError as error:
            raise document.error(("metadata", key), str(error)) from None
    spec = _mapping(document, data.get("spec"), ("spec",))
    check_keys(document, spec, frozenset({"exporterSelector", "policies"}), ("spec",))
    rules = check_value(document, spec.get("policies", []), list[Any], ("spec", "policies"))
    return pb.Policy(
        **names,
        exporters=_selector(document, spec.get("exporterSelector", {}), ("spec", "exporterSelector")),
        rules=[_rule(document, rule, ("spec", "policies", index)) for index, rule in enumerate(rules)],
    )


def _rule(document: Document, value: object, path: PathInFile) -> pb.PolicyRule:
    data = _mapping(document, value, path)
    check_keys(document, data, _RULE, path)
    if check_value(document, data.get("spotAccess", False), bool, (*path, "spotAccess")):
        raise document.error(
            (*path, "spotAccess"),
            "leases that others may take away are not supported; leave spotAccess out, "
            "and give a lower priority instead",
        )
    priority = check_value(document, data.get("priority", 0), int, (*path, "priority"))
    if priority not in PRIORITIES:
        raise document.error(
            (*path, "priority"), "a priority is a number of at most 32 bits; choose a smaller one"
        )
    rule = pb.PolicyRule(
        priority=priority,
        description=check_value(document, data.get("description", ""), str, (*path, "description")),
    )
    sources = check_value(document, data.get("from", []), list[Any], (*path, "from"))
    for index, one in enumerate(sources):
        at = (*path, "from", index)
        source = _mapping(document, one, at)
        check_keys(document, source, frozenset({"clientSelector"}), at)
        rule.clients.append(_selector(document, source.get("clientSelector", {}), (*at, "clientSelector")))
    if "maximumDuration" in data:
        at = (*path, "maximumDuration")
        try:
            rule.maximum_duration = parse_go_duration(_text(document, data["maximumDuration"], at))
        except TimeFormatError as error:
            raise document.error(at, str(error)) from None
    return rule


def _selector(document: Document, given: object, path: PathInFile) -> str:
    """A LabelSelector as canonical text."""
    data = _mapping(document, given, path)
    check_keys(document, data, frozenset({"matchLabels", "matchExpressions"}), path)
    found = []
    labels = (*path, "matchLabels")
    for key, value in _mapping(document, data.get("matchLabels", {}), labels).items():
        found.append(Requirement(key, Operator.EQUALS, (_text(document, value, (*labels, key)),)))
    expressions = (*path, "matchExpressions")
    for index, one in enumerate(
        check_value(document, data.get("matchExpressions", []), list[Any], expressions)
    ):
        found.append(_expression(document, one, (*expressions, index)))
    for requirement in found:
        try:
            for one in requirement.values or ("",):
                check_labels({requirement.key: one})
        except LabelError as error:
            raise document.error(path, str(error)) from None
    try:
        return str(Selector.of(found))
    except SelectorError as error:
        raise document.error(path, str(error)) from None


def _expression(document: Document, value: object, path: PathInFile) -> Requirement:
    data = _mapping(document, value, path)
    check_keys(document, data, frozenset({"key", "operator", "values"}), path)
    word = _text(document, data.get("operator"), (*path, "operator"))
    operator = _OPERATORS.get(word)
    if operator is None:
        raise document.error((*path, "operator"), f"{word!r} is none of {', '.join(_OPERATORS)}")
    values = check_value(document, data.get("values", []), list[str], (*path, "values"))
    if bool(values) != (operator in {Operator.IN, Operator.NOT_IN}):
        how = "needs values" if not values else "takes no values"
        raise document.error(path, f"{word} {how}; In and NotIn have some, Exists and DoesNotExist none")
    return Requirement(_text(document, data.get("key"), (*path, "key")), operator, tuple(sorted(set(values))))


def _mapping(document: Document, value: object, path: PathInFile) -> dict[str, Any]:
    found: dict[str, Any] = check_value(document, value, dict[str, Any], path)
    return found


def _text(document: Document, value: object, path: PathInFile) -> str:
    found: str = check_value(document, value, str, path)
    return found


def written(policies: list[pb.Policy]) -> str:
    """Policies as documents that `read_policies` reads."""
    return yaml.safe_dump_all(map(as_data, policies), sort_keys=False, allow_unicode=True)


def fault_of(policy: pb.Policy) -> str:
    """What is wrong with a policy that another program has written, so that it has no document; empty if nothing is."""
    try:
        as_data(policy)
    except SelectorError as error:
        return shown(str(error), 200)
    return ""


def as_data(policy: pb.Policy) -> dict[str, Any]:
    """A policy as the data of its document. SelectorError: another program has written it, and it has none."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": policy.namespace, "name": policy.name},
        "spec": {
            "exporterSelector": label_selector(policy.exporters),
            "policies": [_rule_document(rule) for rule in policy.rules],
        },
    }


def _rule_document(rule: pb.PolicyRule) -> dict[str, Any]:
    found: dict[str, Any] = {"description": rule.description} if rule.description else {}
    found |= {
        "priority": rule.priority,
        "from": [{"clientSelector": label_selector(one)} for one in rule.clients],
    }
    if rule.HasField("maximum_duration"):
        found["maximumDuration"] = f"{rule.maximum_duration:.9f}".rstrip("0").rstrip(".") + "s"
    return found
