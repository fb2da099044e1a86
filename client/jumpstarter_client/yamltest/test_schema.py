from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jumpstarter_client.yamltest.schema import schema
from jumpstarter_client.yamltest.steps import known_steps

DOCS = Path(__file__).parents[3] / "docs"


def test_the_published_schema_is_the_one_of_our_steps() -> None:
    """`jumpstarter test --schema > docs/jumpstarter-test.schema.json` renews it."""
    assert json.loads((DOCS / "jumpstarter-test.schema.json").read_text()) == schema()


def test_every_step_explains_itself() -> None:
    for name, step in known_steps().items():
        assert step.help.endswith("."), name


def properties(name: str) -> Any:
    return schema()["$defs"]["steps"]["items"]["anyOf"][1]["properties"][name]


def test_a_step_takes_its_first_key_alone_or_all_of_them() -> None:
    short, spelled = properties("storage.flash")["anyOf"]
    assert short == {"type": "string"}
    assert spelled["required"] == ["image"]
    assert set(spelled["properties"]) == {"image", "target", "compression", "verify", "force", "whole"}
    assert {"type": "null"} in properties("power.on")["anyOf"]
