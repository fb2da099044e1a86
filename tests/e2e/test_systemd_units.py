"""The units of systemd/: systemd takes them, they are as hard as promised, and they fit what they start."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from jumpstarter_exporter.boards import claim
from jumpstarter_exporter.serve import sockets
from jumpstarter_proto.process.inherited_descriptors import MAX_DESCRIPTORS

from tests.interop import exporters
from tests.support.peers import ROOT
from tests.support.systemd_tools import Tool

SYSTEMD = ROOT / "systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
MAX_EXPOSURE = 2.5
NEWER = {"RestartSteps": 254, "RestartMaxDelaySec": 254, "FileDescriptorStorePreserve": 254}
"""Keys that an older systemd ignores with a warning, and the version that has them."""
services = pytest.mark.parametrize("service", SERVICES, ids=[path.stem for path in SERVICES])


def settings(unit: Path) -> dict[str, list[str]]:
    """The values of each key, over all sections."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def comments(unit: Path) -> str:
    return "\n".join(line for line in unit.read_text().splitlines() if line.startswith("#"))


def verify(tool: Tool, folder: Path, *units: Path) -> list[str]:
    """What systemd has to say of them, with programs that do nothing in the places of ours."""
    copies = []
    for unit in units:
        name = unit.name.replace("@.", "@rpi4.")
        text = re.sub(
            r"^ExecStart=/usr/s?bin/(\S+)", rf"ExecStart={folder}/\1", unit.read_text(), flags=re.MULTILINE
        )
        for program in re.findall(rf"{folder}/(\S+)", text):
            (folder / program).write_text("#!/bin/sh\n")
            (folder / program).chmod(0o755)
        copies.append(folder / name)
        copies[-1].write_text(text)
    done = subprocess.run(
        [*tool.command, "verify", "--man=no", *map(str, copies)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:{tool.units}", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line.removeprefix(f"{folder}/") for line in done.stderr.splitlines()]
    known = [key for key, version in NEWER.items() if tool.version < version]
    return [line for line in lines if not any(f"Unknown key '{key}'" in line for key in known)]


def test_systemd_takes_the_units(systemd_analyze: list[Tool], tmp_path: Path) -> None:
    for tool in systemd_analyze:
        said = verify(tool, tmp_path, *SERVICES, *SYSTEMD.glob("*.socket"))
        assert said == [], f"systemd {tool.version}"


def test_systemd_would_say_what_is_wrong_with_one(systemd_analyze: list[Tool], tmp_path: Path) -> None:
    wrong = tmp_path / "source" / "jumpstarter-router.service"
    wrong.parent.mkdir()
    text = (SYSTEMD / wrong.name).read_text()
    wrong.write_text(text.replace("ProtectHome=yes", "ProtectHouse=yes"))
    for tool in systemd_analyze:
        [line] = verify(tool, tmp_path, wrong)
        assert "'ProtectHouse'" in line


@services
def test_a_service_is_exposed_no_more_than_promised(service: Path, systemd_analyze: list[Tool]) -> None:
    for tool in systemd_analyze:
        done = subprocess.run(
            [
                *(*tool.command, "security", "--offline=true", "--no-pager"),
                *(f"--threshold={round(MAX_EXPOSURE * 10)}", str(service)),
            ],
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Overall exposure level" in done.stdout, done.stderr
        assert done.returncode == 0, f"systemd {tool.version}: {done.stdout.splitlines()[-1]}"


def test_the_exporters_unit_names_the_reason_of_each_relaxation() -> None:
    """The controller's is the measure: it needs no hardware."""
    exporter = SYSTEMD / "jumpstarter-exporter.service"
    ours, hardest = settings(exporter), settings(SYSTEMD / "jumpstarter-controller.service")
    begin = list(hardest).index("UMask")
    lacking = [key for key in list(hardest)[begin:] if key not in ours and key != "WantedBy"]
    assert "PrivateDevices" in lacking
    assert [key for key in lacking if f"{key}=" not in comments(exporter)] == []


def test_a_board_in_a_process_of_its_own_has_the_exporters_settings() -> None:
    common = settings(SYSTEMD / "jumpstarter-exporter.service")
    own = settings(SYSTEMD / "jumpstarter-exporter@.service")
    different = {key for key in {*common, *own} if common.get(key) != own.get(key)}
    assert different == {"Description", "After", "ExecStart", "Also"}
    command = common["ExecStart"][0].removesuffix(" $JUMPSTARTER_EXPORTER_OPTIONS")
    assert own["ExecStart"] == [f"{command} --board %i"]


def test_exporters_take_up_all_that_is_kept_for_them() -> None:
    """And systemd lets go of it when they are stopped."""
    for name in ("jumpstarter-exporter", "jumpstarter-exporter@"):
        found = settings(SYSTEMD / f"{name}.service")
        [kept] = map(int, found["FileDescriptorStoreMax"])
        assert 0 < kept < MAX_DESCRIPTORS  # the socket is one, too
        assert found["FileDescriptorStorePreserve"] == ["restart"]


def test_the_controllers_and_the_routers_unit_are_as_hard() -> None:
    controller, router = (
        settings(SYSTEMD / f"jumpstarter-{name}.service") for name in ("controller", "router")
    )
    begin = list(controller).index("UMask")
    assert {key: router.get(key) for key in list(controller)[begin:]} == {
        key: controller[key] for key in list(controller)[begin:]
    }


def test_the_socket_is_where_the_exporter_and_its_users_look_for_it() -> None:
    socket = settings(SYSTEMD / "jumpstarter-exporter.socket")
    assert socket["ListenStream"] == [str(sockets.SYSTEM)]
    assert socket["SocketMode"] == [f"{sockets.MODE:04o}"]
    assert socket["SocketGroup"] == [sockets.GROUP]
    exporter = settings(SYSTEMD / "jumpstarter-exporter.service")
    folders = exporter["RuntimeDirectory"][0].split()
    assert {f"/run/{folder}" for folder in folders} == {
        str(sockets.SYSTEM.parent),
        str(sockets.board_socket_path(sockets.SYSTEM, "rpi4").parent),
    }


def test_locks_on_boards_are_where_commands_see_them() -> None:
    """With a /tmp of its own the exporter would have the second place for itself."""
    assert claim.FOLDERS[0] == Path(
        settings(SYSTEMD / "jumpstarter-exporter.service")["ReadWritePaths"][0][1:]
    )


def test_each_user_of_a_unit_is_made() -> None:
    sysusers = "\n".join(path.read_text() for path in SYSTEMD.glob("*.sysusers"))
    made = re.findall(r"^u (\S+)", sysusers, re.MULTILINE)
    units = [*SERVICES, *SYSTEMD.glob("*.socket")]
    named = {
        name
        for unit in units
        for key in ("User", "Group", "SocketUser", "SocketGroup")
        for name in settings(unit).get(key, [])
    }
    tmpfiles = "\n".join(path.read_text() for path in SYSTEMD.glob("*.tmpfiles"))
    folders = re.findall(r"^d \S+ \d+ (\S+) (\S+)", tmpfiles, re.MULTILINE)
    assert named | {name for both in folders for name in both} == set(made)


@services
def test_the_program_has_the_options_of_its_unit(service: Path) -> None:
    found = settings(service)
    command, *words = " ".join([*found["ExecStart"], *found.get("Environment", [])]).split()
    program = exporters.scripts() / Path(command).name
    shown = subprocess.run(
        [program, *(["run"] if "run" in words else []), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    options = re.findall(r"--[\w-]+", " ".join(words))
    assert [option for option in options if f"{option} " not in shown.replace("\n", " ")] == []
