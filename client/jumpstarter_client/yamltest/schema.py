"""The JSON Schema of test files, for editors, made from the installed steps."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec
from jumpstarter_proto.durations import DURATION_PATTERN

from jumpstarter_client.yamltest.steps import StepType, known_steps

__all__ = ["schema"]

_DURATION = {
    "description": "Seconds, or 500ms, 90s, 2m, 1h30m.",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": DURATION_PATTERN},
        {"$ref": "#/$defs/reference"},
    ],
}
_REFERENCE = {"type": "string", "pattern": r"\$\{[^}]+\}"}


def schema() -> dict[str, Any]:
    """Return the schema as a JSON document."""
    steps = known_steps()
    common: dict[str, Any] = {
        "name": {"type": "string", "description": "What the report calls this step."},
        "retries": {
            "type": "integer",
            "minimum": 0,
            "maximum": 1000,
            "description": "Tries after the first.",
        },
        "delay": {"$ref": "#/$defs/duration", "description": "Between two tries."},
    }
    own: dict[str, Any] = {
        "device": {
            "type": "string",
            "description": "A device's path or name, if the test's board has several.",
        },
        "timeout": {"$ref": "#/$defs/duration", "description": "For one try."},
        "capture": {"type": "string", "description": "The variable that keeps the result."},
    }
    items: list[dict[str, Any]] = [
        {"type": "string", "enum": sorted(steps), "description": "A step without keys."},
        {
            "type": "object",
            "properties": common | own | {name: _step(one) for name, one in sorted(steps.items())},
            "additionalProperties": False,
            "oneOf": [{"required": [name]} for name in sorted(steps)],
        },
        {
            "type": "object",
            "properties": common | {"group": {"$ref": "#/$defs/steps"}},
            "additionalProperties": False,
            "required": ["group"],
        },
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Jumpstarter test",
        "type": "object",
        "required": ["steps"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "name": {"type": "string"},
            "description": {"type": "string"},
            "board": {"type": "string", "description": "The device that the steps' devices belong to."},
            "timeout": {"$ref": "#/$defs/duration", "description": "For all steps, without `always`."},
            "variables": {
                "type": "object",
                "description": "Names and values for ${name}; --set changes them.",
            },
            "requires": {
                "type": "object",
                "description": "Without it on the hardware, the test is skipped.",
                "additionalProperties": False,
                "properties": {
                    "interfaces": {"type": "array", "items": {"type": "string"}},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "steps": {"$ref": "#/$defs/steps"},
            "always": {"$ref": "#/$defs/steps", "description": "Done at the end, whatever happened."},
        },
        "$defs": {
            "steps": {"type": "array", "items": {"anyOf": items}},
            "duration": _DURATION,
            "reference": _REFERENCE,
        },
    }


def _step(step: StepType) -> dict[str, Any]:
    if step.whole:
        return {"type": "object", "description": step.help}
    fields = msgspec.structs.fields(step.keys)
    keys = {field.encode_name: _or_reference(field.type) for field in fields}
    required = [field.encode_name for field in fields if field.required]
    forms: list[dict[str, Any]] = []
    if len(required) <= 1 and step.first is not None:
        forms.append(keys[step.first])
    if not required:
        forms.append({"type": "null"})
    spelled: dict[str, Any] = {"type": "object", "properties": keys, "additionalProperties": False}
    if required:
        spelled["required"] = required
    return {"description": step.help, "anyOf": [*forms, spelled]} if forms else spelled


def _or_reference(hint: Any) -> dict[str, Any]:
    """Return the schema of a type, or of a reference to a variable."""
    found = msgspec.json.schema(hint, schema_hook=_hook)
    if found in ({}, {"type": "string"}):
        return found
    return {"anyOf": [found, _REFERENCE]}


def _hook(hint: type) -> dict[str, Any]:
    if issubclass(hint, PurePath):
        return {"type": "string"}
    raise NotImplementedError
