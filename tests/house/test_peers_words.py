"""What others wrote is read and printed by the functions that are made for it, and by nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.rooms import Module, all_modules

YAML_READERS = {
    f"{kind}{name}" for kind in ("", "safe_", "full_", "unsafe_") for name in ("load", "load_all")
} | {"compose", "compose_all", "parse", "scan"}


def written() -> list[Module]:
    return [m for m in all_modules() if not m.is_test and not m.is_generated]


def calls(module: Module) -> Iterator[tuple[str, int]]:
    """Each function of a module that is called as `module.function`, and the line."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
                yield f"{owner}.{name}", node.lineno


def test_yaml_is_read_within_bounds() -> None:
    """By `yaml_files`, which refuses what would grow."""
    readers = {f"yaml.{name}" for name in YAML_READERS}
    found = [
        f"{module.name}:{line}"
        for module in written()
        if module.mentions("yaml.") and not module.name.startswith("jumpstarter_proto.yaml_files")
        for call, line in calls(module)
        if call in readers
    ]
    assert found == [], "use jumpstarter_proto.yaml_files: Document, or load_text"


NUMBERS = {"max(seconds, 1e-09)"}
"""What is divided by in modules that have paths, too."""
OWN_NAMES = {
    ("jumpstarter_proto.local_networks", "interface"): "the kernel's name for it",
    ("jumpstarter_proto.run_folders", "f'{OWNER}.new'"): "a constant's",
    ("jumpstarter_proto.private_files", "f'.{path.name}.{secrets.token_hex(4)}'"): "beside the user's file",
    ("jumpstarter_proto.purerpc_adapter.generate", "file.name"): "beside the developer's .proto file",
    ("jumpstarter_proto.purerpc_adapter.generate", "descriptor.name"): "beside the developer's .proto file",
    ("jumpstarter_exporter.boards.claim", "f'{_PREFIX}{digest}'"): "a digest",
    ("jumpstarter_exporter.hosting.environments", "name"): "the operator's own word, only looked for",
    ("jumpstarter_exporter.hosting.environments", "f'{name}.py'"): "the same",
    ("jumpstarter_exporter.hosting.learning", "f'{key}.json'"): "a digest",
    ("jumpstarter_exporter.recording.folder", "f'{number:012d}{_SUFFIX}'"): "a number",
    ("jumpstarter_exporter.serve.sockets", "SYSTEM.name"): "a constant's",
    ("jumpstarter_exporter.devices.sysfs_tree", "folder"): "a constant's",
    ("jumpstarter_drivers.storage.driver", "path.name + '.new'"): "beside the configured file",
    ("jumpstarter_drivers.storage.driver", "self.file.name + '.incomplete'"): "beside the configured file",
    ("jumpstarter_drivers.storage.changes.block_map", "name + _SUFFIX"): "beside the user's file",
    (
        "jumpstarter_drivers.storage.local",
        "f'.{final.name}.{secrets.token_hex(4)}.part'",
    ): "beside the user's file",
    ("jumpstarter_client.cli.driver", "f'{file}.in'"): "a constant's",
    ("jumpstarter_client.cli.driver", "f'interface{ending}.in'"): "the same",
    ("jumpstarter_client.cli.driver", "kind"): "one of a constant's",
    ("jumpstarter_client.cli.driver", "package"): "the user's own word, which is checked",
    ("jumpstarter_client.cli.driver", "path"): "a constant's, below that",
    ("jumpstarter_client.cli.options", "f'{exporter}.yaml'"): "the user's own word, only looked for",
    ("jumpstarter_client.cli.test", "f'{name}_{count}' if count else name"): "the time",
    ("jumpstarter_client.cli.test", "folder_name(one.name, taken)"): "a SafeName",
    ("jumpstarter_client.identity.client_config", "f'{name}.yaml'"): "the user's own word, only read",
    ("jumpstarter_client.controller.token_renewal", "f'.{path.name}.lock'"): "beside the user's file",
    ("jumpstarter_controller.store.sqlite_files", "path.name + suffix"): "beside the operator's file",
    (
        "jumpstarter_controller.backups.archive",
        "f'.{path.name}.{secrets.token_hex(4)}'",
    ): "beside the operator's file",
    ("jumpstarter_controller.backups.archive", "name"): "a constant's",
    ("jumpstarter_controller.backups.restore", "name"): "a constant's",
    ("jumpstarter_controller.backups.restore", "time.strftime(f'before-{why}-%Y%m%dT%H%M%S')"): "the time",
    ("jumpstarter_controller.backups.kubernetes", "name"): "a constant's",
    ("jumpstarter_image.apply", "name"): "one of a constant's, only looked for",
    ("jumpstarter_image.apply", "path"): "one of the plan's constants",
}
"""By module and expression: what is joined to a folder without `safe_name`, and why no peer chose it."""


def joined(module: Module) -> Iterator[tuple[str, int]]:
    """What is joined to a path and is no constant, and the line."""
    for node in ast.walk(module.tree):
        match node:
            case ast.BinOp(op=ast.Div(), right=right):
                parts = [right]
            case ast.Call(func=ast.Attribute(attr="joinpath" | "with_name" | "with_stem"), args=parts):
                pass
            case ast.Call(
                func=ast.Attribute(value=ast.Attribute(attr="path"), attr="join"), args=[_, *parts]
            ):
                pass
            case _:
                continue
        for part in parts:
            called = ast.unparse(part.func) if isinstance(part, ast.Call) else ""
            good = called in ("safe_name", "user_path")
            if not good and not isinstance(part, ast.Constant):
                yield ast.unparse(part), node.lineno


def test_what_names_a_file_goes_through_safe_name() -> None:
    """Where a module deals with paths: a peer's word in one would name any file of the user's."""
    found = [
        f"{module.name}:{line}: {part}"
        for module in written()
        if module.mentions("pathlib", "os.path")
        for part, line in joined(module)
        if (module.name, part) not in OWN_NAMES and not part.isupper() and part not in NUMBERS
    ]
    assert found == [], "use jumpstarter_proto.file_names.safe_name"


BYTES_AS_THEY_CAME = {
    "jumpstarter_proto.terminal": "the one that may",
    "jumpstarter_proto.secret_input": "a question of ours",
    "jumpstarter_exporter.hooks.machine": "for the documentation",
    "jumpstarter_drivers.serial.client": "a pipe gets the console's bytes; a terminal what `harmless` leaves of them",
    "jumpstarter_drivers.uboot.client": "the bytes of a file that was asked for",
}
"""By module: what it writes without `terminal`, and why."""


def outputs(module: Module) -> Iterator[tuple[str, int]]:
    """What writes to standard output or error, or may, and the line."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                yield "print", node.lineno
            case ast.Attribute(value=target, attr="write" | "writelines"):
                name = ast.unparse(target)
                if "sys.std" in name or name in ("self._output", "output", "self.output"):
                    yield f"{name}.write", node.lineno
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr="safe_dump"), args=[_, _, *_]):
                yield "yaml.safe_dump to a stream", node.lineno


def test_terminals_are_written_to_by_terminal() -> None:
    """It escapes what would move a cursor, begin a line, or turn the text around."""
    found = [
        f"{module.name}:{line}: {what}"
        for module in written()
        if module.name not in BYTES_AS_THEY_CAME and module.mentions("print(", ".write", "safe_dump")
        for what, line in outputs(module)
    ]
    assert found == [], "use jumpstarter_proto.terminal: print_line, print_text and the like"
