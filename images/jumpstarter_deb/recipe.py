"""The packages as data: releases, machines, programs, libraries, files and scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "ARCHITECTURES",
    "BUILT",
    "EXCLUDED",
    "LAB_FOLDER",
    "MAINTAINER",
    "PACKAGES",
    "RELEASES",
    "Architecture",
    "Package",
    "Program",
    "Release",
    "SourcePin",
]

MAINTAINER = "Jumpstarter for SBC lab hosts <jumpstarter-sbc@lists.example.org>"
LAB_FOLDER = "/usr/local/lib/jumpstarter"
"""The folder for drivers of a lab, which is last on Python's path."""


@dataclass(frozen=True)
class Release:
    """A release of Debian and its version of Python."""

    number: int
    suite: str
    python: str

    @property
    def interpreter(self) -> str:
        """The program that runs ours."""
        return f"/usr/bin/python{self.python}"

    @property
    def tag(self) -> str:
        """The tag of wheels for its Python, such as `cp313`."""
        return f"cp{self.python.replace('.', '')}"


@dataclass(frozen=True)
class Architecture:
    """A machine, by the names that Debian, Python and ELF have for it."""

    name: str
    machine: str
    elf_machine: int


@dataclass(frozen=True)
class SourcePin:
    """A library that is built here, from sources with this SHA-256."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Program:
    """A command, by its function."""

    name: str
    module: str
    function: str = "main"
    described_in: str = ""
    """The program whose manual page also describes this one; empty if it has its own page."""


@dataclass(frozen=True)
class Package:
    """One Debian package."""

    name: str
    summary: str
    description: str
    """Paragraphs with an empty line between them."""
    sources: tuple[str, ...]
    """The Python packages of this project that it contains."""
    extras: tuple[str, ...]
    """The extras of pyproject.toml whose libraries it needs."""
    programs: tuple[Program, ...]
    depends: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """Files of this repository, and their installed paths."""
    folders: tuple[str, ...] = ()
    """Empty ones."""
    shares_client: bool = False
    """Whether it has the client's commands. Another package may have them too; dpkg's alternatives select one."""
    priority: int = 0
    """Of its commands among the alternatives."""
    substitutions: dict[str, str] = field(default_factory=dict)
    """Values for its maintainer scripts."""

    @property
    def short(self) -> str:
        """Its name without the common prefix."""
        return self.name.removeprefix("jumpstarter-")

    @property
    def folder(self) -> str:
        """The folder of its libraries."""
        return f"/usr/lib/jumpstarter/{self.short}"


RELEASES = {12: Release(12, "bookworm", "3.11"), 13: Release(13, "trixie", "3.13")}
ARCHITECTURES = {
    "amd64": Architecture("amd64", "x86_64", 62),
    "arm64": Architecture("arm64", "aarch64", 183),
}

BUILT = {
    # pyproject's extra `pi` has wheels of it for everything else.
    (13, "amd64"): (
        SourcePin("lgpio", "0.2.2.0", "11372e653b200f76a0b3ef8a23a0735c85ec678a9f8550b9893151ed0f863fff"),
    ),
}
"""Libraries without a wheel, by release and architecture; for packages with the extra `pi`."""

EXCLUDED = {
    "setuptools": "colorzero names it, and has used nothing of it since Python 3.8",
    "pygments": "rich colours source code and tracebacks with it; our programs print neither, and it is 5 MB",
    "rich-rst": "cyclopts reads help texts in reStructuredText with it; ours are plain text",
    "markdown-it-py": "rich reads Markdown with it; our help texts are plain text",
    "mdurl": "a part of markdown-it-py",
}
"""Libraries that others name and our programs never load, with the reason. The tests of the packages run them all."""

CLIENT_PROGRAMS = (
    Program("jumpstarter", "jumpstarter_client.cli"),
    Program("j", "jumpstarter_client.cli", "j", described_in="jumpstarter"),
)
_SYSTEMD = "systemd | systemd-standalone-sysusers"

PACKAGES = {
    package.name: package
    for package in (
        Package(
            name="jumpstarter-exporter",
            summary="offer the boards of this host for tests (Jumpstarter)",
            description="""\
The exporter runs on the host that boards hang on: a relay cuts their power, a USB adapter carries
their console, a multiplexer moves their SD card. It offers all of that over gRPC, to users of the
host and, through a controller, to everybody in a lab.

What is plugged in needs no configuration. The client's commands are in this package, too.
""",
            sources=(
                "jumpstarter_proto",
                "jumpstarter_exporter",
                "jumpstarter_drivers",
                "jumpstarter_client",
                "jumpstarter_udev",
            ),
            extras=("exporter", "lz4", "pi"),
            programs=(Program("jumpstarter-exporter", "jumpstarter_exporter.cli"), *CLIENT_PROGRAMS),
            depends=("libusb-1.0-0", "udev", _SYSTEMD),
            suggests=("jumpstarter-controller", "ustreamer"),
            files=(
                ("systemd/jumpstarter-exporter.service", "/usr/lib/systemd/system/"),
                ("systemd/jumpstarter-exporter.socket", "/usr/lib/systemd/system/"),
                ("systemd/jumpstarter-exporter@.service", "/usr/lib/systemd/system/"),
                ("systemd/jumpstarter-exporter.sysusers", "/usr/lib/sysusers.d/jumpstarter-exporter.conf"),
                ("systemd/jumpstarter-exporter.tmpfiles", "/usr/lib/tmpfiles.d/jumpstarter-exporter.conf"),
                ("systemd/jumpstarter-exporter.default", "/etc/default/jumpstarter-exporter"),
                ("udev/jumpstarter_udev/70-jumpstarter.hwdb", "/usr/lib/udev/hwdb.d/"),
                ("udev/jumpstarter_udev/71-jumpstarter.rules", "/usr/lib/udev/rules.d/"),
                ("udev/jumpstarter_udev/86-jumpstarter-brltty.rules", "/usr/lib/udev/rules.d/"),
                (
                    "drivers/jumpstarter_drivers/*/example.yaml",
                    "/usr/share/doc/jumpstarter-exporter/examples/*.yaml",
                ),
            ),
            folders=("/etc/jumpstarter/exporters", "/etc/jumpstarter/profiles.d"),
            shares_client=True,
            priority=20,
            substitutions={"STATE": "/var/lib/jumpstarter"},
        ),
        Package(
            name="jumpstarter-controller",
            summary="hand out the boards of a lab to its users (Jumpstarter)",
            description="""\
The controller knows the hosts of a lab and their boards. Users
lease boards, and reach them from anywhere through the router, which is part of this package.
""",
            sources=("jumpstarter_proto", "jumpstarter_controller"),
            extras=("controller",),
            programs=(
                Program("jumpstarter-controller", "jumpstarter_controller.cli"),
                Program("jumpstarter-router", "jumpstarter_controller.cli.router"),
            ),
            depends=(_SYSTEMD,),
            files=(
                ("systemd/jumpstarter-controller.service", "/usr/lib/systemd/system/"),
                ("systemd/jumpstarter-router.service", "/usr/lib/systemd/system/"),
                (
                    "systemd/jumpstarter-controller.sysusers",
                    "/usr/lib/sysusers.d/jumpstarter-controller.conf",
                ),
                (
                    "systemd/jumpstarter-controller.tmpfiles",
                    "/usr/lib/tmpfiles.d/jumpstarter-controller.conf",
                ),
                ("systemd/jumpstarter-controller.default", "/etc/default/jumpstarter-controller"),
                ("systemd/jumpstarter-router.default", "/etc/default/jumpstarter-router"),
            ),
            substitutions={"STATE": "/var/lib/jumpstarter-controller"},
        ),
        Package(
            name="jumpstarter-client",
            summary="use boards of this host or of a lab (Jumpstarter)",
            description="""\
The commands that switch a board's power, open its console, flash its card and run tests on it:
boards of this host, of another one, or of a lab with a controller.
""",
            sources=(
                "jumpstarter_proto",
                "jumpstarter_exporter",
                "jumpstarter_drivers",
                "jumpstarter_client",
            ),
            extras=("lz4",),
            programs=CLIENT_PROGRAMS,
            shares_client=True,
            priority=10,
        ),
    )
}
