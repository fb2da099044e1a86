"""Exporter configuration: `load` a file, `build` its devices, `find` the file that is meant.

Jumpstarter 0.9's files load unchanged for drivers that we have. What does not make sense is a `ConfigError`
that names the file, the line, the path in it and the nearest thing that would make sense.
"""

from __future__ import annotations

from jumpstarter_proto.documents import ConfigError

from jumpstarter_exporter.config.builder import build
from jumpstarter_exporter.config.identities import Identities, with_identity
from jumpstarter_exporter.config.model import Enrolment, Entry, ExporterConfig
from jumpstarter_exporter.config.places import ConfigNotFoundError, every, find, locate
from jumpstarter_exporter.config.reader import load

__all__ = [
    "ConfigError",
    "ConfigNotFoundError",
    "Enrolment",
    "Entry",
    "ExporterConfig",
    "Identities",
    "build",
    "every",
    "find",
    "load",
    "locate",
    "with_identity",
]
