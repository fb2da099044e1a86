"""A YAML file with the place of everything in it. YAML's silent traps are errors: a key twice, an odd key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from jumpstarter_proto.regular_files import open_input
from jumpstarter_proto.yaml_files.bounds import MAX_BYTES, Loader, OddValueError, TooMuchError, check_bounds
from jumpstarter_proto.yaml_files.errors import ConfigError, Mistakes, NoFileError, PathInFile, Place

__all__ = ["Document"]

_TRAPS = frozenset({"tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"})
"""YAML 1.1 reads a bare `on`, `off`, `yes`, `no` or `~` as no text at all."""


class Document:
    """Read `file`; `top` is a key that stands at its top, for those who have none.

    `raw` is what is in it, if that was read already. `mistakes` gets keys that are there twice, of which the first one
    counts; without it, the first of them is an error.

    Raises:
        ConfigError: it cannot be read, or is no YAML mapping.
    """

    def __init__(
        self, file: Path, top: str, raw: bytes | None = None, *, mistakes: Mistakes | None = None
    ) -> None:
        self._begin(file, mistakes)
        with _loader(file, _decoded(file, _raw(file) if raw is None else raw)) as loader:
            self._fill(loader, loader.get_single_node(), top)

    @classmethod
    def load_all(cls, file: Path, top: str, text: str | None = None) -> list[Document]:
        """Each document of a file, with `---` between them; empty ones are left out.

        `text` is what is in it, if that was read already.

        Raises:
            ConfigError: it cannot be read, or one of them is no YAML mapping.
        """
        found = []
        with _loader(file, _decoded(file, _raw(file)) if text is None else text) as loader:
            while loader.check_node():
                node = loader.get_node()
                if isinstance(node, yaml.ScalarNode) and not node.value:
                    continue
                document = cls.__new__(cls)
                document._begin(file)  # noqa: SLF001 - one class
                document._fill(loader, node, top)  # noqa: SLF001
                found.append(document)
        return found

    on_unknown_key: Callable[[ConfigError], None] | None = None
    """What hears of unknown keys, which are errors otherwise."""

    def _begin(self, file: Path, mistakes: Mistakes | None = None) -> None:
        self.file = file
        self._mistakes = mistakes
        self._places: dict[PathInFile, Place] = {}

    def _fill(self, loader: Any, node: Any, top: str) -> None:
        if node is not None:
            self._note(node, ())
        data = None if node is None else loader.construct_document(node)
        if data is None:
            raise ConfigError(f"the file is empty; it needs at least `{top}:`", file=self.file)
        if not isinstance(data, dict):
            raise ConfigError(
                f"the file is not a mapping; it begins with keys such as `{top}:`", file=self.file
            )
        self.data: dict[str, Any] = data

    def error(self, path: PathInFile, message: str) -> ConfigError:
        """An error about what is at `path`, with its place in the file."""
        at = path
        while at and at not in self._places:
            at = at[:-1]
        return ConfigError(message, file=self.file, path=path, place=self._places.get(at))

    def unknown_key(self, path: PathInFile, message: str) -> None:
        """Raise ConfigError for a key that nobody knows, or tell it to `on_unknown_key` and go on."""
        error = self.error(path, message)
        if self.on_unknown_key is None:
            raise error
        self.on_unknown_key(error)

    def _note(self, node: Any, path: PathInFile) -> None:
        self._places.setdefault(path, _place(node.start_mark))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            pairs, node.value = node.value, []
            for key, value in pairs:
                if not isinstance(key, yaml.ScalarNode) or key.tag in _TRAPS:
                    text = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or a mapping"
                    raise _wrong(
                        self.file, f"{text} as a key is not text; put it in quotes", key.start_mark, path
                    )
                name = key.value
                if name in seen:
                    sentence = f"{name!r} is there twice; keep one"
                    error = _wrong(self.file, sentence, key.start_mark, (*path, name))
                    if self._mistakes is None:
                        raise error
                    self._mistakes.add(error)
                    continue
                seen.add(name)
                node.value.append((key, value))
                self._places[*path, name] = _place(key.start_mark)
                self._note(value, (*path, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._note(item, (*path, index))


@contextmanager
def _loader(file: Path, text: str) -> Iterator[Any]:
    """A loader of that text; what goes wrong with it is a ConfigError about the file."""
    loader = Loader(text)
    try:
        check_bounds(text)
        yield loader
    except TooMuchError as error:
        raise _wrong(file, f"{error.problem}; is it meant so?", error.problem_mark) from None
    except OddValueError as error:
        raise _wrong(file, error.problem or "", error.problem_mark) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        raise _wrong(file, f"this is not YAML: {what}; check the indentation and quotes", mark) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"this is not YAML: {error}; check the file", file=file) from error
    finally:
        loader.dispose()


def _raw(file: Path) -> bytes:
    try:
        with open_input(file) as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NoFileError("there is no such file; check the path", file=file) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", file=file) from None


def _decoded(file: Path, raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise ConfigError("the file is larger than 1 MiB; is it YAML?", file=file)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        place = (raw.count(b"\n", 0, error.start) + 1, error.start - raw.rfind(b"\n", 0, error.start))
        raise ConfigError("the file is not UTF-8 text; save it as UTF-8", file=file, place=place) from None


def _wrong(file: Path, message: str, mark: Any, path: PathInFile = ()) -> ConfigError:
    return ConfigError(message, file=file, path=path, place=None if mark is None else _place(mark))


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1
