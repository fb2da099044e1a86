"""Exporter configuration: `load` a file, `build` its devices, `find_config` the file that is meant.

Jumpstarter 0.9's files load unchanged for drivers that we have. What does not make sense is a `ConfigError`
that names the file, the line, the path in it and the nearest thing that would make sense.
"""

from __future__ import annotations

from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_exporter.config.builder import build, find_mistakes
from jumpstarter_exporter.config.config_files import (
    ConfigNotFoundError,
    find_config,
    list_configs,
    locate_config,
)
from jumpstarter_exporter.config.identities import Identities, with_identity
from jumpstarter_exporter.config.model import DeviceEntry, Enrolment, ExporterConfig
from jumpstarter_exporter.config.reader import load

__all__ = [
    "ConfigError",
    "ConfigNotFoundError",
    "DeviceEntry",
    "Enrolment",
    "ExporterConfig",
    "Identities",
    "build",
    "find_config",
    "find_mistakes",
    "list_configs",
    "load",
    "locate_config",
    "with_identity",
]
