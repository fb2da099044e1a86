"""Imports point down only, and starting the CLI loads nothing that a command may not need."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from jumpstarter_proto.deferred_imports import DEFERRED_MODULES

from tests.house.rooms import PACKAGES, Module, all_modules, modules
from tests.support.peers import ROOT

# What each package may import of ours, itself aside. Everything else goes by name, through importlib.
ALLOWED = {
    "jumpstarter_proto": set(),
    "jumpstarter_exporter": {"jumpstarter_proto"},
    "jumpstarter_client": {"jumpstarter_proto"},
    "jumpstarter_controller": {"jumpstarter_proto"},
    "jumpstarter_drivers": {"jumpstarter_proto", "jumpstarter_exporter", "jumpstarter_client"},
    "jumpstarter_image": {"jumpstarter_proto"},
}
SIDES = {"jumpstarter_exporter", "jumpstarter_client"}
# The one-line `serve(driver)` of driver tests joins both ends in one process; it is its whole job.
BOTH_SIDES = {"jumpstarter_drivers.testing"}
# What is deferred and a daemon uses all the same, though nobody uses it yet.
USED = {"decimal", "hashlib", "hmac"}
HTTP2 = {"purerpc", "h2", "hpack", "hyperframe", "grpc"}


def ours(module: Module) -> set[str]:
    return {name.partition(".")[0] for name in module.imports()} & PACKAGES.keys()


def sources(package: str) -> list[Module]:
    return [module for module in modules(package) if not module.is_test]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_down(package: str) -> None:
    allowed = ALLOWED[package] | {package}
    wrong = {module.name: sorted(ours(module) - allowed) for module in sources(package)}
    assert {name: up for name, up in wrong.items() if up} == {}


def test_a_drivers_host_side_and_user_side_do_not_meet() -> None:
    """Also not through a third module of the drivers: a user's machine has no exporter, a host no client."""
    graph = {module.name: module for module in sources("jumpstarter_drivers")}

    def reached(name: str) -> set[str]:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                waiting += graph[current].imports() & graph.keys()
        return {package for name in seen for package in ours(graph[name])} & SIDES

    sides = {name: reached(name) for name in graph if name not in BOTH_SIDES}
    assert [name for name, both in sides.items() if both == SIDES] == []
    wrong_side = [
        name
        for name, side in sides.items()
        if (name.endswith(".driver") and "jumpstarter_client" in side)
        or (name.endswith(".client") and "jumpstarter_exporter" in side)
    ]
    assert wrong_side == []


def test_only_the_rpc_package_knows_http2() -> None:
    around = {
        module.name: sorted(
            {name.partition(".")[0] for name in module.imports()} & (HTTP2 - may_import(module.name))
        )
        for module in all_modules()
        if module.mentions(*HTTP2)
        if not module.is_test and not module.name.startswith("jumpstarter_proto.rpc")
    }
    assert {name: found for name, found in around.items() if found} == {}


def may_import(name: str) -> set[str]:
    """purerpc's service API is for the gRPC services of driver interfaces, and grpcio-tools to generate their code."""
    if name.startswith("jumpstarter_proto.driver."):
        return {"purerpc"}
    return {"purerpc", "grpc"} if name.startswith("jumpstarter_proto.purerpc_adapter.") else set()


@pytest.mark.parametrize("entry_point", ["jumpstarter_client.cli", "jumpstarter_client"])
def test_starting_the_client_loads_no_hardware_no_controller_no_exporter(entry_point: str) -> None:
    program = f"import sys, {entry_point}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert entry_point.partition(".")[0] in loaded
    unwanted = {"pyudev", "gpiozero", "usb", "serial", "kubernetes", "lgpio", "jwt"}
    unwanted |= {"jumpstarter_controller", "jumpstarter_exporter"}
    assert loaded & unwanted == set()


def test_starting_the_exporter_loads_no_hardware_and_no_client() -> None:
    program = "import sys, jumpstarter_exporter.cli; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    unwanted = {"pyudev", "gpiozero", "usb", "serial", "jumpstarter_client", "jumpstarter_controller"}
    assert loaded & unwanted == set()


@pytest.mark.parametrize(
    ("program", "arguments", "used"),
    [
        ("jumpstarter_exporter.cli", "run --config {home}/board.yaml --socket {home}/socket", USED),
        (
            "jumpstarter_controller.cli",
            "run --with-router --data {home} --listen :0 --router-listen :0",
            {*USED, "ast", "calendar", "ipaddress", "shutil", "ssl", "tempfile", "traceback", "urllib.parse"},
        ),
    ],
)
def test_a_daemon_keeps_nothing_of_what_has_read_its_options_or_is_not_used(
    program: str, arguments: str, used: set[str], tmp_path: Path
) -> None:
    (tmp_path / "board.yaml").write_text("export: {power: {type: power.MockPower}}\n")
    code = f"""
        import sys
        from {program} import main
        try:
            main()
        finally:
            import types
            print("LOADED", *(name for name, one in sys.modules.items() if type(one) is types.ModuleType))
    """
    words = arguments.format(home=tmp_path).split()
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as daemon:
        assert daemon.stdout is not None
        first = daemon.stdout.readline()
        daemon.terminate()
        rest = daemon.communicate(timeout=60)[0]
    said, _, names = rest.partition("LOADED")
    loaded = {name.partition(".")[0] for name in names.split()} | set(names.split())
    assert "trio" in loaded, first + said
    assert loaded & {"cyclopts", "rich", "docstring_parser", "google.protobuf.text_format"} == set()
    assert loaded & DEFERRED_MODULES - used == set()
    assert "jumpstarter_exporter.hosting" not in loaded, (
        "only exporters with drivers of Jumpstarter 0.9 need it"
    )


def test_reading_the_shipped_udev_rules_loads_no_zipfile() -> None:
    """An exporter reads them once a minute, and would keep it."""
    program = """
        import sys
        from jumpstarter_exporter.devices.hwdb import shipped
        from jumpstarter_exporter.host_health.host_files import HostFiles
        from jumpstarter_exporter.host_health.read_system import read_udev
        assert shipped().records and read_udev(HostFiles()).files
        print(*sys.modules)
    """
    loaded = set(_output(textwrap.dedent(program)).split())
    before = set(_output("import sys; print(*sys.modules)").split())
    assert loaded & {"zipfile", "importlib.resources"} - before == set()


def test_a_command_on_its_way_to_a_board_loads_nothing_that_it_does_not_use() -> None:
    """What trio and protobuf import is deferred; what files and argument parsers need is imported by who needs it."""
    program = """
        import os, sys, types
        from jumpstarter_client.cli import main
        os.environ["JUMPSTARTER_HOST"] = "/nowhere/exporter.sock"
        sys.argv[1:] = ["power", "on"]
        try:
            main()
        except SystemExit as end:
            print(end.code, *(name for name, module in sys.modules.items() if type(module) is types.ModuleType))
    """
    code, *names = _output(textwrap.dedent(program)).split()
    loaded = set(names)
    assert code == "4"
    assert {"trio", "jumpstarter_client.connections.connect", "jumpstarter_drivers.power.client"} <= loaded
    unwanted = {"cyclopts", "rich", "yaml", "msgspec", "asyncio", "concurrent", "email", "http", "jwt"}
    unwanted |= {"importlib.metadata", "sqlite3", "multiprocessing", "jumpstarter_client.resources"}
    unwanted |= {"jumpstarter_proto.encoding", "_ssl", "_hashlib", "_decimal", "google.protobuf.text_format"}
    # Whatever imported these before us, as a tool that starts Python with modules of its own, is none of our doing.
    before = set(_output("import sys; print(*sys.modules)").split())
    assert loaded & (unwanted | DEFERRED_MODULES) - before == set()


@pytest.mark.parametrize("module", ["apply", "status", "enrolment"])
def test_the_program_of_the_card_loads_no_protobuf_and_no_event_loop(module: str) -> None:
    """It is run several times in each boot, on small machines."""
    path = f"sys.path.insert(0, {str(ROOT / 'images')!r})"
    loaded = set(
        _output(f"import sys; {path}; import jumpstarter_image.{module}; print(*sys.modules)").split()
    )
    unwanted = {"google.protobuf", "jumpstarter_proto.value", "trio", "asyncio", "email", "http"}
    before = set(_output("import sys; print(*sys.modules)").split())
    assert loaded & unwanted - before == set()


def _output(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
