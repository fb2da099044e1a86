"""`jumpstarter-exporter check`: configurations' devices as trees, without using them, and identities."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.file_names import safe_name
from jumpstarter_proto.terminal import print_error_line, print_line, print_text
from jumpstarter_proto.yaml_files import Mistakes, mistakes_of

from jumpstarter_exporter import config as configuration
from jumpstarter_exporter.composite import Composite
from jumpstarter_exporter.config import ConfigError, Enrolment, ExporterConfig, Identities
from jumpstarter_exporter.config.folder import BoardFile, boards_of, discovered_file, read_file, read_files
from jumpstarter_exporter.config.identities import StoredIdentity, is_readable_by_others, token_place
from jumpstarter_exporter.config.model import check_command
from jumpstarter_exporter.devices import Spec
from jumpstarter_exporter.devices.spec import walk
from jumpstarter_exporter.driver import Driver
from jumpstarter_exporter.isolation import isolated

__all__ = ["check_files"]


@dataclass(frozen=True)
class _Checked:
    """A configuration and the messages about it."""

    file: Path
    board: str
    error: ConfigError | None = None
    tree: Spec | None = None
    enrolment: Enrolment | None = None
    notes: tuple[str, ...] = ()


def check_files(name: str | None, *, output: str = "text") -> int:
    """Print the devices of one file or name, or of every file.

    Raises:
        ConfigError: the only file has one mistake.
        ConfigNotFoundError: there is no such file, or none at all.
    """
    identities = Identities()
    if name is None:
        boards = boards_of(read_files(), parse=_parse)
        if not boards:
            configuration.find_config()  # says where files are searched
        problems = list(_orphans(boards, identities))
    else:
        boards = boards_of([read_file(configuration.locate_config(name))], parse=_parse)
        problems = []
    checked = [_check(one, identities) for one in boards.values()]
    wrong = [one.error for one in checked if one.error is not None]
    wrong += [problem for problem in problems if isinstance(problem, ConfigError)]
    if output == "json":
        print_text(json.dumps(_described(checked, problems), indent=2) + "\n")
    elif len(checked) == 1 and not problems and wrong and len(mistakes_of(wrong[0])) == 1:
        raise wrong[0]
    else:
        _print(checked, problems)
    return ExitCode.USAGE if wrong else ExitCode.OK


def _parse(path: Path, content: bytes) -> ExporterConfig:
    try:
        return configuration.load(path, raw=content)
    except ConfigError as error:
        mistakes = Mistakes()
        mistakes.add(*configuration.find_mistakes(path, content), error)
        mistakes.check(check_command(path))
        raise


def _check(board: BoardFile, identities: Identities) -> _Checked:
    loaded = board.config
    if loaded is None:
        return _Checked(board.path, board.name, board.error)
    try:
        tree = configuration.build(loaded)
        enrolment = configuration.with_identity(loaded, identities).enrolment
        notes = (
            *_process_notes(loaded),
            *_required_notes(tree, is_leased=enrolment is not None),
            *_hardware_notes(tree),
            *_notes(loaded, identities),
        )
    except ConfigError as error:
        return _Checked(board.path, board.name, error)
    if not tree.children:
        notes = ("nothing is exported; add a device below `export:`.", *notes)
    return _Checked(board.path, board.name, None, tree, enrolment, notes)


def _process_notes(loaded: ExporterConfig) -> Iterator[str]:
    if loaded.settings.own_process:
        yield (
            "ownProcess: the board has its own process, which must be started as well: jumpstarter-exporter run "
            f"--board {loaded.board_name}; `jumpstarter-exporter run` directs the users of the host to it."
        )


def _required_notes(tree: Spec, *, is_leased: bool) -> Iterator[str]:
    """Where `required: true` has no effect: it keeps a board from being leased while hardware is missing."""
    required = [(path, spec) for path, spec in walk(tree) if spec.required]
    for path, spec in required:
        if not any(_has_hardware(below) for _, below in walk(spec)):
            yield f"{path}: `required` has no effect without a device below it; remove it, or add a device."
    if required and not is_leased:
        names = ", ".join(path for path, _ in required)
        yield f"{names}: `required` changes nothing before the board has joined a controller: it is about leases."


def _has_hardware(spec: Spec) -> bool:
    return spec.ref is None and spec.kind is not Composite


def _hardware_notes(tree: Spec) -> Iterator[str]:
    """What drivers say about their hardware.

    It may be plugged in later, so missing hardware is not an error of the file.
    """
    for path, spec in walk(tree):
        if spec.fault or spec.kind.describe_hardware is Driver.describe_hardware:
            continue
        try:
            with isolated("describe_hardware()"):
                said = spec.make().describe_hardware()
        except Exception as error:  # any driver's code; its neighbours must be checked
            said = str(error)
        if said:
            yield f"{path}: {said}"


def _orphans(
    boards: Mapping[str, BoardFile], identities: Identities
) -> Iterator[ConfigError | StoredIdentity]:
    """Invalid identities, and those of boards that do not exist."""
    for file, stored in identities.every().items():
        if isinstance(stored, ConfigError):
            if all(identities.path(name) != file for name in boards):  # otherwise it is that board's error
                yield stored
        elif stored.host:
            continue  # the daemon removes it
        elif stored.config == discovered_file(identities.folder.parent, stored.board):
            continue  # only the daemon knows whether it is discovered
        elif stored.board not in boards and (stored.config is None or _is_gone(stored.config)):
            yield stored


def _is_gone(path: Path) -> bool:
    """Whether the file is known not to exist. A file that this user may not see may exist."""
    try:
        path.stat()
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


def _orphan_sentence(stored: StoredIdentity) -> str:
    return (
        f"{stored.enrolment.file} is the identity of a board {stored.board}, for which there is no configuration; "
        f"put one as {safe_name(stored.board, '.yaml')} beside the others, or delete the identity."
    )


def _print(checked: Sequence[_Checked], problems: Sequence[ConfigError | StoredIdentity]) -> None:
    for one in checked:
        if one.error is not None:
            for mistake in mistakes_of(one.error):
                print_error_line(f"jumpstarter-exporter: {mistake}")
            continue
        print_line(f"{one.file} is right.")
        for line in _lines(one.tree, "") if one.tree is not None else ():
            print_line(line)
        if one.enrolment is None:
            print_line(
                "Identity: none, so the board is for users of this host; "
                f"join a controller: jumpstarter-exporter enrol HOST:PORT --config {shlex.quote(str(one.file))}"
            )
        elif one.enrolment.host is not None and not one.enrolment.token:
            print_line(f"Identity: {one.enrolment}, when its host has registered it ({one.enrolment.file})")
        else:
            print_line(f"Identity: {one.enrolment} ({one.enrolment.file})")
        for note in one.notes:
            print_line(f"Note: {note}")
    for problem in problems:
        if isinstance(problem, ConfigError):
            print_error_line(f"jumpstarter-exporter: {problem}")
        else:
            print_line(f"Note: {_orphan_sentence(problem)}")


def _described(
    checked: Sequence[_Checked], problems: Sequence[ConfigError | StoredIdentity]
) -> dict[str, object]:
    """The same for scripts, without tokens."""
    return {
        "boards": [
            {
                "board": one.board,
                "file": str(one.file),
                "error": None if one.error is None else str(one.error),
                "errors": [] if one.error is None else [str(mistake) for mistake in mistakes_of(one.error)],
                "devices": {} if one.tree is None else dict(_devices(one.tree)),
                "identity": None
                if one.enrolment is None
                else {
                    "namespace": one.enrolment.namespace,
                    "name": one.enrolment.name,
                    "endpoint": one.enrolment.endpoint,
                    "file": str(one.enrolment.file),
                },
                "notes": list(one.notes),
            }
            for one in checked
        ],
        "identities": [
            {"file": str(one.file), "board": None, "error": str(one)}
            if isinstance(one, ConfigError)
            else {"file": str(one.enrolment.file), "board": one.board, "error": _orphan_sentence(one)}
            for one in problems
        ],
    }


def _notes(loaded: ExporterConfig, identities: Identities) -> Iterator[str]:
    """Which of two identities is not used, and which secret is readable by others."""
    stored = identities.find(loaded.board_name)
    used = configuration.with_identity(loaded, identities).enrolment
    if stored is not None and (used is None or used.file != stored.enrolment.file):
        yield (
            f"{stored.enrolment.file} is not used: it is for the board of {stored.config}; "
            "give one of the two another `metadata.name`."
        )
    if loaded.enrolment is None:
        return
    if used is not loaded.enrolment:
        stored_file = stored.enrolment.file if stored else ""
        yield f"{token_place(loaded)} is not used, because {stored_file} takes precedence; remove it."
    if is_readable_by_others(loaded.file.stat()):
        yield (
            f"{token_place(loaded)} can be read by others; run: chmod 600 {shlex.quote(str(loaded.file))}, "
            "or enrol, which keeps a new one elsewhere."
        )


def _lines(spec: Spec, indent: str) -> Iterator[str]:
    for index, (name, child) in enumerate(spec.children.items()):
        last = index == len(spec.children) - 1
        yield f"{indent}{'└─' if last else '├─'} {name}{_what(child)}"
        yield from _lines(child, indent + ("   " if last else "│  "))


def _devices(spec: Spec, above: str = "") -> Iterator[tuple[str, str]]:
    for name, child in spec.children.items():
        if what := _what(child).lstrip(": "):
            yield above + name, what
        yield from _devices(child, f"{above}{name}.")


def _what(spec: Spec) -> str:
    if spec.ref is not None:
        return f" = {spec.ref}"
    kind = spec.kind
    if kind is Composite:
        return ""
    if kind.__name__.startswith("_"):  # a part that no file can name
        return f": {kind.interface}"
    package, _, rest = kind.__module__.partition(".")
    ours = package == "jumpstarter_drivers" and rest.endswith(".driver")
    return (
        f": {rest.removesuffix('.driver')}.{kind.__name__}"
        if ours
        else f": {kind.__module__}.{kind.__name__}"
    )
