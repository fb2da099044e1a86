"""What the image has beside the packages: its units are taken by systemd, and say what the program reads and writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jumpstarter_image import enrolment, plan
from jumpstarter_image.cli import TRY_AGAIN, UPDATE_UNIT
from jumpstarter_image.host_system import HostSystem
from jumpstarter_image.system_packages import CONTROLLER, EXPORTER
from jumpstarter_image.update_prepare import RECORD

from tests.e2e.test_systemd_units import settings, verify
from tests.support.peers import ROOT
from tests.support.systemd_tools import Tool

ROOTFS = ROOT / "images" / "rootfs"
UNITS = ROOTFS / "usr/lib/systemd/system"
SERVICES = sorted(UNITS.glob("*.service"))
MAX_EXPOSURE = {
    "jumpstarter-image-update": 10.0,
    "jumpstarter-image-seal": 10.0,
}
"""Of 10; the others 2.5. The first is apt, the second changes the mounts of the host."""
HOST = HostSystem(Path("/"))
TIME_SCRIPT = ROOTFS / "usr/sbin/jumpstarter-image-time"


def test_systemd_takes_the_units(systemd_analyze: list[Tool], tmp_path: Path) -> None:
    # Those of the packages are named by these.
    for tool in systemd_analyze:
        said = verify(tool, tmp_path, *SERVICES, *UNITS.glob("*.path"), *UNITS.glob("*.timer"))
        assert said == [], f"systemd {tool.version}"


@pytest.mark.parametrize("service", SERVICES, ids=[path.stem for path in SERVICES])
def test_a_unit_is_exposed_no_more_than_its_job_needs(service: Path, systemd_analyze: list[Tool]) -> None:
    for tool in systemd_analyze:
        threshold = round(MAX_EXPOSURE.get(service.stem, 2.5) * 10)
        done = subprocess.run(
            [
                *tool.command,
                "security",
                "--offline=true",
                "--no-pager",
                f"--threshold={threshold}",
                str(service),
            ],
            env=os.environ | {"LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"systemd {tool.version}: {done.stdout.splitlines()[-1:]}"


def test_each_unit_runs_a_command_that_there_is() -> None:
    commands = [settings(unit)["ExecStart"][0].split() for unit in SERVICES]
    ours = [words for words in commands if words[0] == "/usr/bin/jumpstarter-image"]
    assert sorted(words[1] for words in ours) == ["apply", "enrol", "status", "update", "update"]
    for _, command, *options in ours:
        done = subprocess.run(
            [sys.executable, "-m", "jumpstarter_image", command, *options, "--help"],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0


def test_the_host_starts_in_an_order_in_which_each_finds_what_it_reads() -> None:
    before = " ".join(settings(UNITS / "jumpstarter-image.service")["Before"]).split()
    assert {"network-pre.target", "systemd-networkd.service", "chrony.service"} <= set(before)
    for unit in SERVICES:
        # The data partition grows, and the clock is set, before anything of the host's settings is read.
        if unit.stem not in ("jumpstarter-image", "jumpstarter-image-grow", "jumpstarter-image-clock"):
            assert "jumpstarter-image.service" in " ".join(settings(unit)["After"]).split()


def test_nothing_that_a_boot_waits_for_waits_for_the_network_or_the_time() -> None:
    """Where there is neither, the host is up all the same."""
    for unit in SERVICES:
        wanted = " ".join(settings(unit).get("Wants", []) + settings(unit).get("Requires", []))
        assert "online" not in wanted
        assert "time-sync" not in wanted
    assert settings(UNITS / "jumpstarter-image-enrol.service")["Type"] == ["exec"]


def test_chronyd_reads_what_is_made_of_the_file_and_says_it_to_the_hosts_network() -> None:
    chrony = settings(UNITS / "chrony.service.d/10-image.conf")
    assert chrony["EnvironmentFile"] == [""]
    assert chrony["Environment"] == [f'"DAEMON_OPTS=-F 1 -f /{plan.TIME}"']
    server = settings(UNITS / "jumpstarter-image-time-server.service")
    assert server["ConditionPathExists"] == [f"/{plan.CONTROLLER_OPTIONS}"]
    assert server["PartOf"] == ["chrony.service"]
    # A boot does not wait for its minutes.
    assert server["Type"] == ["exec"]
    sources = settings(UNITS / "jumpstarter-image-time-sources.service")
    assert f"/run/{sources['RuntimeDirectory'][0]}" == plan.NETWORK_TIME
    assert f"\nnamed={plan.NETWORK_TIME}/" in TIME_SCRIPT.read_text()
    assert f"\nseconds={enrolment.CLOCK_SECONDS:.0f}\n" in TIME_SCRIPT.read_text()
    [watched] = settings(UNITS / "jumpstarter-image-time-sources.path")["PathChanged"]
    assert f"\nnetwork={watched}\n" in TIME_SCRIPT.read_text()


class _TimeScript:
    """The script with its places in a folder, and programs that do what the host's would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("programs", "state", "netif", "named"):
            (folder / name).mkdir()
        text = TIME_SCRIPT.read_text()
        for place, instead in (
            ("/var/lib/jumpstarter-image/", "state"),
            ("/run/systemd/netif/", "netif"),
            (f"{plan.NETWORK_TIME}/", "named"),
        ):
            assert place in text
            text = text.replace(place, f"{folder / instead}/")
        (folder / "script").write_text(text)

    def program(self, name: str, script: str) -> None:
        """One on the PATH, which also notes its words."""
        file = self.folder / "programs" / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.folder}/called\n{script}\n')
        file.chmod(0o755)

    def run(self, verb: str) -> list[str]:
        """The words with which programs were called."""
        (self.folder / "called").write_text("")
        path = f"{self.folder / 'programs'}:{os.environ['PATH']}"
        command = ["sh", str(self.folder / "script"), verb]
        subprocess.run(command, env=os.environ | {"PATH": path}, timeout=60, check=True)
        return (self.folder / "called").read_text().splitlines()


def test_the_clock_goes_on_where_it_was_and_never_back(tmp_path: Path) -> None:
    script = _TimeScript(tmp_path)
    script.program("date", "[ $# -gt 1 ] || echo 1000")
    assert script.run("restore") == ["date +%s"]
    script.run("keep")
    kept = tmp_path / "state/clock"
    assert abs(kept.stat().st_mtime - time.time()) < 60
    os.utime(kept, (2000, 2000))
    assert script.run("restore") == ["date +%s", "date -u -s @2000"]
    os.utime(kept, (999, 999))
    assert script.run("restore") == ["date +%s"]


def test_time_servers_of_the_network_are_those_of_its_last_word(tmp_path: Path) -> None:
    script = _TimeScript(tmp_path)
    script.program("chronyc", "")
    said = ["chronyc -n -m reload sources onoffline burst 4/4"]
    named = tmp_path / "named/network.sources"
    assert script.run("sources") == said
    assert named.read_text() == ""
    network = tmp_path / "netif/state"
    network.write_text("OPER_STATE=routable\nDNS=10.0.0.1\nNTP=10.0.0.1 ntp.lab\n")
    assert script.run("sources") == said
    assert (
        named.read_text() == "server 10.0.0.1 iburst minpoll 4 trust\nserver ntp.lab iburst minpoll 4 trust\n"
    )
    # The network says something else while chronyd is told.
    script.program(
        "chronyc", f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; echo NTP=10.0.0.2 >{network}; }}"
    )
    assert script.run("sources") == [*said, *said]
    assert named.read_text() == "server 10.0.0.2 iburst minpoll 4 trust\n"


def test_the_clock_of_a_labs_card_is_given_away_after_the_time_that_others_have_to_tell_it(
    tmp_path: Path,
) -> None:
    script = _TimeScript(tmp_path)
    script.program("chronyc", "")
    script.program("sleep", "")
    text = (tmp_path / "script").read_text().replace("/proc/uptime", f"{tmp_path}/uptime")
    (tmp_path / "script").write_text(text)
    (tmp_path / "uptime").write_text("60.52 100.00\n")
    given = "chronyc -n local stratum 10"
    assert script.run("serve") == [f"sleep {enrolment.CLOCK_SECONDS - 60:.0f}", given]
    (tmp_path / "uptime").write_text("181.00 100.00\n")
    assert script.run("serve") == [given]


def test_conditions_and_places_are_those_of_the_program() -> None:
    enrol = settings(UNITS / "jumpstarter-image-enrol.service")
    conditions = [f"|/{plan.ENROL_MARKER}", f"|/{plan.CONTROLLER_OPTIONS}"]
    assert enrol["ConditionPathExists"] == conditions
    assert str(TRY_AGAIN) not in enrol["SuccessExitStatus"][0].split()
    controller = settings(UNITS / "jumpstarter-controller.service.d/10-image.conf")
    assert controller["ConditionPathExists"] == [f"/{plan.CONTROLLER_OPTIONS}"]
    assert controller["EnvironmentFile"] == [f"-/{plan.CONTROLLER_OPTIONS}"]
    wifi = settings(UNITS / "jumpstarter-image-wifi@.service")
    assert wifi["ConditionPathExists"] == [f"/{plan.WPA}"]
    assert f"-c /{plan.WPA} " in wifi["ExecStart"][0]
    path = settings(UNITS / "jumpstarter-image.path")
    assert path["PathChanged"] == [str(HOST.site_file)]
    image = settings(UNITS / "jumpstarter-image.service")
    assert f"/var/lib/{image['StateDirectory'][0]}" == str(HOST.state_folder)
    assert {f"/{one}" for one in plan.PATHS if not one.startswith("run/")} == set()
    update = settings(UNITS / UPDATE_UNIT)
    assert update["ConditionPathExists"] == [str(HOST.update_folder / RECORD)]
    assert {EXPORTER, CONTROLLER} <= set(" ".join(update["After"]).split())
    # dpkg is not told to stop; the program waits for it.
    assert update["KillMode"] == ["mixed"]
    # In a mount namespace of its own it would make nothing writable.
    assert not {"ProtectSystem", "PrivateTmp", "ReadWritePaths", "PrivateDevices"} & update.keys()
    keys = (ROOTFS / "etc/ssh/sshd_config.d/10-jumpstarter.conf").read_text()
    assert f"AuthorizedKeysFile /{plan.SSH_KEYS.replace(plan.USER, '%u')}\n" in keys


def test_udev_takes_the_rule(udevadm: list[str]) -> None:
    [rules] = (ROOTFS / "usr/lib/udev/rules.d").iterdir()
    found = re.findall(r'"(jumpstarter-image-[^"]*)"', rules.read_text())
    assert found == ["jumpstarter-image-wifi@$name.service"]
    done = subprocess.run(
        [*udevadm, "verify", "--resolve-names=never", "--no-summary", str(rules)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
