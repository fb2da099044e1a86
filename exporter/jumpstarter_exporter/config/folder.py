"""All boards of a host, from the files of its configuration folders.

`read_files` reads, `boards_of` says what that means; it does no I/O. A file that is broken takes nothing from the
others, and a new file takes no board's name from the one that has it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.regular_files import open_input
from jumpstarter_proto.yaml_files import MAX_BYTES, ConfigError

from jumpstarter_exporter.config.config_files import list_configs, misnamed_configs
from jumpstarter_exporter.config.model import ExporterConfig
from jumpstarter_exporter.config.reader import load

__all__ = ["BoardFile", "SourceFile", "boards_of", "discovered_file", "nodes_in", "read_file", "read_files"]

_NODE = re.compile(rb"/dev/[^\s'\"?,}\]]+")
_COMMENT = re.compile(rb"(^|\s)#.*$", re.MULTILINE)


@dataclass(frozen=True)
class SourceFile:
    """A file's content."""

    path: Path
    content: bytes = b""
    problem: str = ""
    """Why it cannot be read; empty if it can."""


@dataclass(frozen=True)
class BoardFile:
    """A board's file: its configuration, or its error."""

    name: str
    """The board's name. An invalid file keeps the name that it had before, or has its own name without `.yaml`."""
    path: Path
    digest: str
    """The digest of its content; empty if it cannot be read."""
    config: ExporterConfig | None = field(default=None, compare=False)
    error: ConfigError | None = field(default=None, compare=False)
    nodes: frozenset[str] = field(default=frozenset(), compare=False)
    """Device nodes that it names, whether it is valid or not."""
    is_discovered: bool = field(default=False, compare=False)
    """The board has no file: its devices are discovered."""
    is_empty: bool = field(default=False, compare=False)
    """None of its devices was ever present. This is not a fault; `error` has the sentence."""

    def says_the_same(self, other: BoardFile) -> bool:
        """Whether file, content, error and exporter are the same as before."""
        return self._meaning == other._meaning

    @property
    def _meaning(self) -> tuple[object, ...]:
        # Without the token: an exporter reads a new one by itself.
        known = None if self.config is None else self.config.enrolment
        identity = None if known is None else (known.endpoint, known.namespace, known.name)
        return self.path, self.digest, self.error.message if self.error else "", identity


def discovered_file(directory: Path, name: str) -> Path:
    """A path in a state directory that replaces a discovered board's file, for example for its lock.

    It does not exist.
    """
    return directory / "boards" / safe_name(name, ".yaml")


Parse = Callable[[Path, bytes], ExporterConfig]


def _parse(path: Path, content: bytes) -> ExporterConfig:
    return load(path, lenient=True, raw=content)


def boards_of(
    files: Iterable[SourceFile], before: Mapping[str, BoardFile] | None = None, parse: Parse = _parse
) -> dict[str, BoardFile]:
    """Return all files by the name of their board, in the order of their paths.

    If two files have the same name, the board is the file that had the name `before`, else a valid file, else the file
    named like the board. The other file is an error under its file name, or under its path if that name is used.
    `parse` raises ConfigError.
    """
    held = {one.path: name for name, one in (before or {}).items()}
    parsed = [_parsed(file, held, parse) for file in sorted(files, key=lambda file: file.path)]
    found: dict[str, BoardFile] = {}

    def rank(one: BoardFile) -> tuple[bool, bool, bool, Path]:
        return held.get(one.path) != one.name, one.config is None, one.path.stem != one.name, one.path

    for one in sorted(parsed, key=rank):
        found.setdefault(one.name, one)
    for one in parsed:
        winner = found[one.name]
        if winner is one:
            continue
        name = one.path.stem if one.path.stem not in found else str(one.path)
        error = one.error or ConfigError(
            f"it is named {one.name}, as {winner.path}; give one of them another `metadata: {{name: ...}}`",
            file=one.path,
        )
        found[name] = BoardFile(name, one.path, one.digest, None, error, one.nodes)
    return dict(sorted(found.items(), key=lambda item: item[1].path))


def _parsed(file: SourceFile, held: Mapping[Path, str], parse: Parse) -> BoardFile:
    name = held.get(file.path, file.path.stem)
    if file.problem:
        return BoardFile(name, file.path, "", None, ConfigError(file.problem, file=file.path))
    digest = hashlib.sha256(file.content).hexdigest()
    nodes = nodes_in(file.content)
    try:
        config = parse(file.path, file.content)
    except ConfigError as error:
        return BoardFile(name, file.path, digest, None, error, nodes)
    return BoardFile(config.board_name, file.path, digest, config, None, nodes)


def nodes_in(content: bytes) -> frozenset[str]:
    """The device nodes in the text of a configuration, without its comments."""
    return frozenset(os.fsdecode(one) for one in _NODE.findall(_COMMENT.sub(b"", content)))


def read_files(places: Iterable[Path] | None = None) -> list[SourceFile]:
    """List the files of the configuration folders, by default those of the user and the system. Blocking.

    Files with the suffix `.yml` are listed as a problem, because they are not read.

    Raises:
        PrivateFileError: a folder cannot be read, so the boards are unknown.
    """
    places = None if places is None else list(places)
    found = [read_file(path) for path in list_configs(places, must_see=True).values()]
    return found + [
        SourceFile(
            path, problem=f"only files whose names end with .yaml are read; rename it to {path.stem}.yaml"
        )
        for path in misnamed_configs(places)
    ]


def read_file(path: Path) -> SourceFile:
    """One file, up to the maximum size of a configuration. Blocking."""
    try:
        with open_input(path) as stream:
            return SourceFile(path, stream.read(MAX_BYTES + 1))
    except FileNotFoundError:
        return SourceFile(path, problem="there is no such file; check the path")
    except OSError as error:
        return SourceFile(path, problem=f"the file cannot be read: {error.strerror}")
