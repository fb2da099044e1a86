"""A YAML file with the line of everything in it. YAML's silent traps are errors: a key twice, an odd key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jumpstarter_exporter.config.errors import ConfigError, PathInFile

__all__ = ["Document"]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TRAPS = frozenset({"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"})
"""YAML 1.1 reads a bare `on`, `off`, `yes`, `no` or `~` as no text at all."""
MAX_BYTES = 1024 * 1024
"""A configuration is smaller; a disk image given by mistake is not."""


class Document:
    """Read `file`.

    Raises:
        ConfigError: it cannot be read, or is no YAML mapping.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[PathInFile, int] = {}
        loader = _Loader(self._text())
        try:
            node = loader.get_single_node()
            if node is not None:
                self._note(node, ())
            data = None if node is None else loader.construct_document(node)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = " ".join(part for part in (error.problem, error.context) if part)
            raise self._wrong(f"this is not YAML: {what}; check the indentation and quotes", mark) from error
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"this is not YAML: {error}; check the file", file=file) from error
        finally:
            loader.dispose()
        if data is None:
            raise ConfigError("the file is empty; it needs at least an `export:` with a device", file=file)
        if not isinstance(data, dict):
            raise ConfigError("the file is no mapping; it begins with keys such as `export:`", file=file)
        self.data: dict[str, Any] = data

    def error(self, path: PathInFile, message: str) -> ConfigError:
        """An error about what is at `path`, with its line."""
        at = path
        while at and at not in self._lines:
            at = at[:-1]
        return ConfigError(message, file=self.file, path=path, line=self._lines.get(at))

    def _text(self) -> str:
        try:
            with self.file.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise ConfigError("there is no such file; check the path", file=self.file) from None
        except OSError as error:
            raise ConfigError(f"the file cannot be read: {error.strerror}", file=self.file) from None
        if len(raw) > MAX_BYTES:
            raise ConfigError("the file is larger than 1 MiB; is it a configuration?", file=self.file)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigError(
                "the file is not UTF-8 text; save it as UTF-8", file=self.file, line=line
            ) from None

    def _note(self, node: Any, path: PathInFile) -> None:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag in _TRAPS:
                    text = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                    raise self._wrong(f"{text} as a key is not text; put it in quotes", key.start_mark, path)
                name = key.value
                if name in seen:
                    raise self._wrong(f"{name!r} is there twice; keep one", key.start_mark, (*path, name))
                seen.add(name)
                self._lines[*path, name] = key.start_mark.line + 1
                self._note(value, (*path, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._note(item, (*path, index))

    def _wrong(self, message: str, mark: Any, path: PathInFile = ()) -> ConfigError:
        line = None if mark is None else mark.line + 1
        return ConfigError(message, file=self.file, path=path, line=line)
