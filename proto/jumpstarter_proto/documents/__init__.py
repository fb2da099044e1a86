"""YAML that people write: read strictly, with the place of every fault."""

from __future__ import annotations

from jumpstarter_proto.documents.blanking import BlankingError, blanked
from jumpstarter_proto.documents.bounds import MAX_BYTES, load_text
from jumpstarter_proto.documents.document import Document
from jumpstarter_proto.documents.edit import edited
from jumpstarter_proto.documents.errors import ConfigError, FieldError, PathInFile, dotted, nearest
from jumpstarter_proto.documents.structs import read_struct
from jumpstarter_proto.documents.values import check_keys, check_names, check_value, convert, kind_of

__all__ = [
    "MAX_BYTES",
    "BlankingError",
    "ConfigError",
    "Document",
    "FieldError",
    "PathInFile",
    "blanked",
    "check_keys",
    "check_names",
    "check_value",
    "convert",
    "dotted",
    "edited",
    "kind_of",
    "load_text",
    "nearest",
    "read_struct",
]
