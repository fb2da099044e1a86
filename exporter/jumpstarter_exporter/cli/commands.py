"""The commands of `jumpstarter-exporter` and their options. What a command needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number
from jumpstarter_proto.duration_parameter import Seconds
from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.shell_completion import add_completion

from jumpstarter_exporter.cli.program import PROGRAM, set_up_logging

__all__ = ["app"]

Level = Literal["debug", "info", "warning", "error"]
_Timeout = Annotated[Seconds, Parameter(validator=Number(gt=0))]
_Flag = Annotated[bool, Parameter(negative="")]
if TYPE_CHECKING:
    NameOrFile = str
else:
    NameOrFile = str | Path
    """A text, as written; completion offers names of files for it because of the other type."""

app = App(
    name=PROGRAM,
    help="""Offer this host's boards to their users.

Plug in a serial adapter; it needs no configuration:

    jumpstarter-exporter run
    jumpstarter devices                      in another terminal
    jumpstarter serial start-console

Try it without hardware, then with your own configuration:

    jumpstarter-exporter init lab.yaml
    jumpstarter-exporter check lab.yaml
    jumpstarter-exporter run --config lab.yaml
    jumpstarter devices
""",
    help_format="plaintext",
    version=installed_version,
    version_flags=["--version"],
    result_action="return_value",
    default_parameter=Parameter(negative_iterable=""),
)
add_completion(app)

_network = Group("Over the network")


@app.command
def run(
    *,
    config: Annotated[NameOrFile | None, Parameter(name=["--config", "-c"])] = None,
    board: str | None = None,
    socket: Path | None = None,
    listen: Annotated[str | None, Parameter(group=_network)] = None,
    tls_cert: Annotated[Path | None, Parameter(group=_network)] = None,
    tls_key: Annotated[Path | None, Parameter(group=_network)] = None,
    insecure: Annotated[bool, Parameter(group=_network, negative="")] = False,
    passphrase_file: Annotated[Path | None, Parameter(group=_network)] = None,
    discovery: Annotated[bool, Parameter(env_var="JUMPSTARTER_DISCOVERY")] = True,
    log_level: Level = "warning",
) -> dict[str, Any]:
    """Serve the boards of this host until stopped: configured boards, and plugged devices.

    Devices on USB that a profile knows, such as serial adapters, need no
    configuration: without any they are the board of this host, beside configured
    boards they are a board of its name. A board that `jumpstarter-exporter enrol` has made an exporter of a controller
    serves its leases, and the users of this host while it is not leased.

        jumpstarter-exporter run
        jumpstarter-exporter run --config lab.yaml --socket /tmp/lab.sock
        jumpstarter-exporter run --board rpi4      a process for one board
        jumpstarter-exporter run --listen :8082 --tls-cert a.crt --tls-key a.key

    Parameters
    ----------
    config
        A file, or the name of one in ~/.config/jumpstarter/exporters or /etc/jumpstarter/exporters.
    board
        Serve only this board of the configuration folder, beside the exporter that
        serves the others. With `ownProcess: true` in its file that exporter leaves it to this process.
    socket
        Socket for users of this host; by default in /run/jumpstarter or the user's runtime directory.
    listen
        [HOST:]PORT for users of other hosts.
    tls_cert
        The certificate chain, as PEM.
    tls_key
        Its key, as PEM.
    insecure
        No TLS: anybody on the network path can read and change everything.
    passphrase_file
        File with the passphrase that users must give; or set $JMP_GRPC_PASSPHRASE.
    discovery
        Serve plugged devices, unless --config or --board is given.
    log_level
        Level of the log on stderr.
    """
    return {
        "config": config,
        "board": board,
        "socket": socket,
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "insecure": insecure,
        "passphrase_file": passphrase_file,
        "discovery": discovery,
        "log_level": log_level,
    }


@app.command
def check(
    file: NameOrFile | None = None,
    /,
    *,
    output: Annotated[Literal["text", "json"], Parameter(["--output", "-o"])] = "text",
    log_level: Level = "warning",
) -> int:
    """Check configurations, and show their devices and exporters.

    No hardware is touched.

        jumpstarter-exporter check              every configuration of this host
        jumpstarter-exporter check lab.yaml

    Parameters
    ----------
    file
        A file, or the name of one as for `run`; by default all that `run` finds.
    output
        json for scripts.
    log_level
        Level of the log on stderr.
    """
    from jumpstarter_exporter.cli.check import check_files

    set_up_logging(log_level)
    return check_files(file, output=output)


@app.command
def init(output: Annotated[NameOrFile | None, Parameter(allow_leading_hyphen=True)] = None) -> int:
    """Write a configuration with the devices that are found on this host.

    Serial adapters, relay boards, SD multiplexers and cameras are offered.
    Disks, GPIO chips and what else needs a decision are in comments. No device
    is opened, and no file is overwritten.

        jumpstarter-exporter init rpi4.yaml
        jumpstarter-exporter check rpi4.yaml
        jumpstarter-exporter run --config rpi4.yaml
        jumpstarter-exporter init -               print it

    Parameters
    ----------
    output
        The new file, or - for stdout; by default HOST.yaml in the current folder.
    """
    from jumpstarter_exporter.cli.init import write_configuration

    return write_configuration(output)


@app.command(name=["enrol", "enroll"])
def enrol(
    endpoint: str,
    /,
    *,
    tls_fingerprint: str = "",
    config: Annotated[NameOrFile | None, Parameter(name=["--config", "-c"])] = None,
    board: str | None = None,
    save: Path | None = None,
    replace: Annotated[bool, Parameter(negative="")] = False,
    code_file: Path | None = None,
    token_from: Path | None = None,
    log_level: Level = "warning",
) -> int:
    """Enrol this host with all of its boards, or one board, at a controller.

    `jumpstarter-controller admin pair host NAME` creates a pairing code for a host, which
    then registers its boards; `admin pair exporter NAME` creates one for a board. The
    command asks for the code, or reads it from stdin, --code-file or $JMP_PAIRING_CODE.
    The token is stored in the state directory, readable by its owner only. The
    configuration is not changed.

        jumpstarter-exporter enrol lab:8082 --tls-fingerprint 3F:A0:…  this host
        jumpstarter-exporter enrol lab.example.org:8082 --config rpi4.yaml
        jumpstarter-exporter enrol lab:8082 --board lab-pi    a discovered board

    Parameters
    ----------
    endpoint
        HOST:PORT of the controller.
    tls_fingerprint
        SHA-256 of the controller's self-signed certificate, which it prints at its start.
    config
        With a code for one board: its configuration or its name as for `run`;
        by default the only one, or a new one.
    board
        With a code for one board: its name, if it was discovered and has no configuration.
    save
        Write the token into this configuration instead, for Jumpstarter 0.9; its
        devices and comments stay.
    replace
        Replace an existing identity of the board or host.
    code_file
        Read the code from this file.
    token_from
        Instead of a code: a configuration with a token from Jumpstarter 0.9's controller,
        for a board that was discovered.
    log_level
        Level of the log on stderr.
    """
    from jumpstarter_exporter.cli.enrol import enrol_exporter

    set_up_logging(log_level)
    return enrol_exporter(
        endpoint,
        fingerprint=tls_fingerprint,
        config=config,
        save=save,
        replace=replace,
        code_file=code_file,
        board=board,
        token_from=token_from,
    )


@app.command
def boards(
    *,
    output: Annotated[Literal["text", "json", "yaml", "name"], Parameter(["--output", "-o"])] = "text",
    socket: Path | None = None,
) -> int:
    """List the boards of this host, their devices, and devices without a board.

    Shows for each board its configuration, or that it was discovered; its
    exporter and controller, or that it needs a token; its devices with
    their states, and how discovered devices are recognised.

        jumpstarter-exporter boards
        jumpstarter-exporter boards -o json

    Parameters
    ----------
    output
        json or yaml for scripts, name for the names of the boards alone.
    socket
        The exporter's socket; by default the same as for `run`.
    """
    from jumpstarter_exporter.cli.boards import list_boards

    return list_boards(output=output, socket=socket)


@app.command
def forget(device: str, /, *, socket: Path | None = None) -> int:
    """Forget a discovered device that was removed.

    If it is plugged in again, it is a new device.

        jumpstarter-exporter forget ft232r-a50285bj.serial

    Parameters
    ----------
    device
        Its name, as listed by `jumpstarter-exporter boards`.
    socket
        The exporter's socket; by default the same as for `run`.
    """
    from jumpstarter_exporter.cli.boards import forget_device

    return forget_device(device, socket=socket)


@app.command
def drain(
    *boards: str,
    all: _Flag = False,  # noqa: A002 - the option's name
    exit: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002 - the option's name
    socket: Path | None = None,
) -> int:
    """Keep boards from being leased until `resume`. A current lease continues.

    Also after restarts. Users of this host can still use the boards.

        jumpstarter-exporter drain rpi4         to work on its wiring
        jumpstarter-exporter drain rpi4 rock    several boards
        jumpstarter-exporter drain --all        all boards
        jumpstarter-exporter drain --exit       end the exporter after the current leases

    Parameters
    ----------
    boards
        Their names; by default all boards of this host that a controller leases.
    all
        The same as no name.
    exit
        End the exporter when no lease is served any more; after its next start, boards
        that were not drained by name are leased again.
    socket
        The exporter's socket; by default the same as for `run`.
    """
    from jumpstarter_exporter.cli.drain import chosen_boards, drain_boards

    return drain_boards(chosen_boards(boards, is_all=all), exit_after=exit, socket=socket)


@app.command
def resume(
    *boards: str,
    all: _Flag = False,  # noqa: A002 - the option's name
    socket: Path | None = None,
    timeout: _Timeout = 300.0,
) -> int:
    """End the drain of boards, and start stopped boards.

    Leases that wait for a board get it at once.

        jumpstarter-exporter resume rpi4 rock
        jumpstarter-exporter resume --all

    Parameters
    ----------
    boards
        Their names; by default all boards of this host.
    all
        The same as no name.
    socket
        The exporter's socket; by default the same as for `run`.
    timeout
        Seconds to wait for the exporter; it continues even after that.
    """
    from jumpstarter_exporter.cli.drain import chosen_boards, resume_boards

    return resume_boards(chosen_boards(boards, is_all=all), socket=socket, timeout=timeout)


@app.command
def reload(*, socket: Path | None = None, timeout: _Timeout = 300.0) -> int:
    """Reload the exporter's configuration, and print the result for each board.

    A board restarts or ends if its file has changed or is gone: when its
    lease is over and no local user uses it. Other boards are not affected. A
    board with an invalid file continues unchanged. SIGHUP does the same.

        jumpstarter-exporter reload

    Parameters
    ----------
    socket
        The exporter's socket; by default the same as for `run`.
    timeout
        Seconds to wait for the exporter; it continues even after that.
    """
    from jumpstarter_exporter.cli.drain import reload_boards

    return reload_boards(socket=socket, timeout=timeout)


@app.command
def doctor(
    *,
    output: Annotated[Literal["text", "json", "yaml"], Parameter(["--output", "-o"])] = "text",
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative="")] = False,
) -> int:
    """Check this host, and print problems and what to do about them.

    Supply, temperature, disks, memory, clock, permissions for the boards' devices,
    USB, services, udev rules, other programs, configurations, controllers and the
    exporter. No device is opened, and nothing is changed. Checks that this user
    may not make are listed; sudo makes more of them. Exits with 1 if there is an error.

        jumpstarter-exporter doctor
        sudo jumpstarter-exporter doctor --quiet      only problems
        jumpstarter-exporter doctor -o json

    Parameters
    ----------
    output
        json or yaml for scripts: each finding with its key, and the numbers.
    quiet
        Only warnings and errors.
    """
    from jumpstarter_exporter.cli.doctor import examine_host

    set_up_logging("error")
    return examine_host(output=output, is_quiet=quiet)


profiles = App(
    name="profiles", help="Show how profiles match the devices of this host.", help_format="plaintext"
)
app.command(profiles)


@profiles.command(name="test")
def profiles_test(
    device: str,
    /,
    *,
    database: Path | None = None,
    folder: Path | None = None,
    output: Annotated[Literal["text", "json"], Parameter(["--output", "-o"])] = "text",
) -> int:
    """Show which profile matches a device, and why the others do not.

    No device is opened.

        jumpstarter-exporter profiles test /dev/ttyUSB0
        jumpstarter-exporter profiles test 1-1.4         what is plugged in there
        jumpstarter-exporter profiles test 1-1.4 --database other-host.txt

    Parameters
    ----------
    device
        A node, a USB port, or a path below /sys.
    database
        Output of `udevadm info --export-db` on another host; by default the devices of this one.
    folder
        Folder of the admin's profiles; by default /etc/jumpstarter/profiles.d.
    output
        json for scripts.
    """
    from jumpstarter_exporter.cli.profiles import explain_devices

    return explain_devices(device, database=database, folder=folder, output=output)


@app.command
def suggest(device: str | None = None, /, *, database: Path | None = None, folder: Path | None = None) -> int:
    """Print profiles for devices without one.

    A profile says which driver a device has, and which name.

        jumpstarter-exporter suggest
        jumpstarter-exporter suggest /dev/ttyUSB0 > rpi4.yaml

    Complete the output, put it into /etc/jumpstarter/profiles.d, and try it:

        jumpstarter-exporter profiles test /dev/ttyUSB0

    Parameters
    ----------
    device
        A node, a USB port, or a path below /sys; by default all that no profile matches.
    database
        Output of `udevadm info --export-db` on another host; by default the devices of this one.
    folder
        Folder of the admin's profiles; by default /etc/jumpstarter/profiles.d.
    """
    from jumpstarter_exporter.cli.profiles import suggest_profiles

    return suggest_profiles(device, database=database, folder=folder)
