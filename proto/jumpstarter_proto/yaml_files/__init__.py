"""YAML that people write: read strictly, with the place of every fault."""

from __future__ import annotations

from jumpstarter_proto.yaml_files.blanking import BlankingError, blanked
from jumpstarter_proto.yaml_files.bounds import MAX_BYTES, load_text
from jumpstarter_proto.yaml_files.document import Document
from jumpstarter_proto.yaml_files.edit import set_values
from jumpstarter_proto.yaml_files.errors import (
    ConfigError,
    FieldError,
    Mistakes,
    PathInFile,
    SeveralMistakesError,
    dotted,
    mistakes_of,
    nearest,
)
from jumpstarter_proto.yaml_files.structs import read_struct
from jumpstarter_proto.yaml_files.values import (
    check_keys,
    check_names,
    check_value,
    convert,
    explained,
    kind_of,
)

__all__ = [
    "MAX_BYTES",
    "BlankingError",
    "ConfigError",
    "Document",
    "FieldError",
    "Mistakes",
    "PathInFile",
    "SeveralMistakesError",
    "blanked",
    "check_keys",
    "check_names",
    "check_value",
    "convert",
    "dotted",
    "explained",
    "kind_of",
    "load_text",
    "mistakes_of",
    "nearest",
    "read_struct",
    "set_values",
]
