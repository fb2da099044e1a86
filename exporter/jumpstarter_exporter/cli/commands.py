"""The commands of `jumpstarter-exporter` and their options. What a command needs is loaded when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number
from jumpstarter_proto.installed import installed_version

from jumpstarter_exporter.cli.program import PROGRAM, set_up_logging

__all__ = ["app"]

Level = Literal["debug", "info", "warning", "error"]
_Seconds = Annotated[float, Parameter(validator=Number(gt=0))]
_Flag = Annotated[bool, Parameter(negative="")]

app = App(
    name=PROGRAM,
    help="""Offer this host's boards to their users.

Plug in a serial adapter; it needs no configuration:

    jumpstarter-exporter run
    jumpstarter devices                      in another terminal
    jumpstarter serial start-console

Try it without hardware, then with your own configuration:

    jumpstarter-exporter check lab.yaml
    jumpstarter-exporter run --config lab.yaml
    jumpstarter devices
""",
    help_format="plaintext",
    version=installed_version,
    version_flags=["--version"],
    result_action="return_value",
)

_network = Group("Over the network")


@app.command
def run(
    *,
    config: Annotated[str | None, Parameter(name=["--config", "-c"])] = None,
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
    """Serve the boards of this host until told to stop: configured ones, and what is plugged in.

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
        Serve this one of the configuration folder alone, behind the door of the exporter that
        serves the others. With `ownProcess: true` in its file that one leaves it to this process.
    socket
        Where users of this host connect; otherwise in /run/jumpstarter or the user's runtime directory.
    listen
        [HOST:]PORT for users of other hosts.
    tls_cert
        The certificate chain, as PEM.
    tls_key
        Its key, as PEM.
    insecure
        No TLS: everybody on the way can read and change everything.
    passphrase_file
        Holds what users must know; or set $JMP_GRPC_PASSPHRASE.
    discovery
        Serve what is plugged in, unless --config or --board is given.
    log_level
        What goes to stderr.
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
    file: str | None = None,
    /,
    *,
    output: Annotated[Literal["text", "json"], Parameter(["--output", "-o"])] = "text",
    log_level: Level = "warning",
) -> int:
    """Say whether configurations are right, and show their devices and which exporter each is.

    No hardware is touched.

        jumpstarter-exporter check              every configuration of this host
        jumpstarter-exporter check lab.yaml

    Parameters
    ----------
    file
        A file, or the name of one as for `run`; otherwise all that `run` finds.
    output
        json for scripts.
    log_level
        What goes to stderr.
    """
    from jumpstarter_exporter.cli.check import check_files  # noqa: PLC0415

    set_up_logging(log_level)
    return check_files(file, output=output)


@app.command(name=["enrol", "enroll"])
def enrol(
    endpoint: str,
    /,
    *,
    tls_fingerprint: str = "",
    config: Annotated[str | None, Parameter(name=["--config", "-c"])] = None,
    board: str | None = None,
    save: Path | None = None,
    replace: Annotated[bool, Parameter(negative="")] = False,
    code_file: Path | None = None,
    token_from: Path | None = None,
    log_level: Level = "warning",
) -> int:
    """Join a controller with a pairing code: this host with all of its boards, or one board.

    The code says which: `jumpstarter-controller admin pair host NAME` makes one for
    a host, whose boards then register by themselves; `admin pair exporter NAME` one
    for a board. It is asked for, or read from stdin, from --code-file or from
    $JMP_PAIRING_CODE. The token that it is good for is kept in the state directory,
    for its owner only; no configuration is changed, and none needs a secret.

        jumpstarter-exporter enrol lab:8082 --tls-fingerprint 3F:A0:…  this host
        jumpstarter-exporter enrol lab.example.org:8082 --config rpi4.yaml
        jumpstarter-exporter enrol lab:8082 --board lab-pi    a discovered board

    Parameters
    ----------
    endpoint
        HOST:PORT of the controller.
    tls_fingerprint
        SHA-256 of its certificate, if it made its own; it printed it at its start.
    config
        With a code for one board: its configuration or its name as for `run`;
        otherwise the only one that there is, or a new one.
    board
        With a code for one board: its name, if it was discovered and has no configuration.
    save
        Write the token into this configuration instead, for Jumpstarter 0.9; its
        devices and comments stay.
    replace
        The board is another exporter already, or the host another one, which it forgets.
    code_file
        Holds the code, instead of asking for it.
    token_from
        No code, but a configuration with a token that Jumpstarter 0.9's controller
        made: for a board that was discovered.
    log_level
        What goes to stderr.
    """
    from jumpstarter_exporter.cli.enrol import enrol_exporter  # noqa: PLC0415

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
    """List the boards of this host and their devices, and what belongs to none.

    Each with the configuration that it is from, or that it was discovered; which
    exporter of which controller it is, or that it needs a token; its devices with
    their states, and by what those that were discovered are known.

        jumpstarter-exporter boards
        jumpstarter-exporter boards -o json

    Parameters
    ----------
    output
        json or yaml for scripts, name for the names of the boards alone.
    socket
        Where the exporter listens; otherwise where `run` does.
    """
    from jumpstarter_exporter.cli.boards import list_boards  # noqa: PLC0415

    return list_boards(output=output, socket=socket)


@app.command
def forget(device: str, /, *, socket: Path | None = None) -> int:
    """Remember nothing of a discovered device that is gone for good.

    Plugged in again it is a new one.

        jumpstarter-exporter forget ft232r-a50285bj.serial

    Parameters
    ----------
    device
        Its name, as `jumpstarter-exporter boards` lists it.
    socket
        Where the exporter listens; otherwise where `run` does.
    """
    from jumpstarter_exporter.cli.boards import forget_device  # noqa: PLC0415

    return forget_device(device, socket=socket)


@app.command
def drain(
    *boards: str,
    all: _Flag = False,  # noqa: A002 - the option's name
    exit: Annotated[bool, Parameter(negative="")] = False,  # noqa: A002 - the option's name
    socket: Path | None = None,
) -> int:
    """Keep boards from being leased, until `resume`. A lease that runs goes on.

    They stay so over restarts. Users of this host may use them all the same.

        jumpstarter-exporter drain rpi4         to work on its wiring
        jumpstarter-exporter drain rpi4 rock    several boards
        jumpstarter-exporter drain --all        all boards
        jumpstarter-exporter drain --exit       end it after the leases that run

    Parameters
    ----------
    boards
        Their names; otherwise all boards of this host that a controller leases.
    all
        The same as no name.
    exit
        End the exporter when no lease is served any more; its next start leases
        again what is not drained by name.
    socket
        Where the exporter listens; otherwise where `run` does.
    """
    from jumpstarter_exporter.cli.drain import chosen_boards, drain_boards  # noqa: PLC0415

    return drain_boards(chosen_boards(boards, is_all=all), exit_after=exit, socket=socket)


@app.command
def resume(
    *boards: str,
    all: _Flag = False,  # noqa: A002 - the option's name
    socket: Path | None = None,
    timeout: _Seconds = 300.0,
) -> int:
    """Let boards be leased again that were drained, and start those that were stopped.

        jumpstarter-exporter resume rpi4 rock
        jumpstarter-exporter resume --all

    Parameters
    ----------
    boards
        Their names; otherwise all boards of this host.
    all
        The same as no name.
    socket
        Where the exporter listens; otherwise where `run` does.
    timeout
        Seconds to wait for the exporter, which goes on after that all the same.
    """
    from jumpstarter_exporter.cli.drain import chosen_boards, resume_boards  # noqa: PLC0415

    return resume_boards(chosen_boards(boards, is_all=all), socket=socket, timeout=timeout)


@app.command
def reload(*, socket: Path | None = None, timeout: _Seconds = 300.0) -> int:
    """Have the exporter read its configuration again, and say what became of each board.

    A board begins anew, or ends, if its file has changed or is gone: when its
    lease is over and nobody at the host uses it. No other board is touched. A
    board whose file is broken goes on as it was. SIGHUP does the same.

        jumpstarter-exporter reload

    Parameters
    ----------
    socket
        Where the exporter listens; otherwise where `run` does.
    timeout
        Seconds to wait for the exporter, which goes on after that all the same.
    """
    from jumpstarter_exporter.cli.drain import reload_boards  # noqa: PLC0415

    return reload_boards(socket=socket, timeout=timeout)


@app.command
def doctor(
    *,
    output: Annotated[Literal["text", "json", "yaml"], Parameter(["--output", "-o"])] = "text",
    quiet: Annotated[bool, Parameter(["--quiet", "-q"], negative="")] = False,
) -> int:
    """Look at this host, and say what is wrong with it and what to do.

    Supply, temperature, disks, memory, clock, permissions for the boards' devices,
    USB, services, udev rules, other programs, configurations, controllers and the
    exporter that runs. No device is opened, and nothing is changed. What this user
    may not see is said; with sudo more can be seen. Ends with 1 if there is an error.

        jumpstarter-exporter doctor
        sudo jumpstarter-exporter doctor --quiet      only what is wrong
        jumpstarter-exporter doctor -o json

    Parameters
    ----------
    output
        json or yaml for scripts: each finding with its key, and the numbers.
    quiet
        Only warnings and errors.
    """
    from jumpstarter_exporter.cli.doctor import examine_host  # noqa: PLC0415

    set_up_logging("error")
    return examine_host(output=output, is_quiet=quiet)


profiles = App(
    name="profiles", help="What profiles make of the devices of this host.", help_format="plaintext"
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
    """Say what a device is offered as, by which profile, and why not by the others.

    Nothing is opened.

        jumpstarter-exporter profiles test /dev/ttyUSB0
        jumpstarter-exporter profiles test 1-1.4         what is plugged in there
        jumpstarter-exporter profiles test 1-1.4 --database other-host.txt

    Parameters
    ----------
    device
        A node, a USB port, or a path below /sys.
    database
        What `udevadm info --export-db` printed on another host; otherwise the devices of this one.
    folder
        Where the admin's profiles are; otherwise /etc/jumpstarter/profiles.d.
    output
        json for scripts.
    """
    from jumpstarter_exporter.cli.profiles import explain_devices  # noqa: PLC0415

    return explain_devices(device, database=database, folder=folder, output=output)


@app.command
def suggest(device: str | None = None, /, *, database: Path | None = None, folder: Path | None = None) -> int:
    """Write profiles for devices that none matches.

        jumpstarter-exporter suggest
        jumpstarter-exporter suggest /dev/ttyUSB0 > rpi4.yaml

    Complete what it prints, put it into /etc/jumpstarter/profiles.d, and try it:

        jumpstarter-exporter profiles test /dev/ttyUSB0

    Parameters
    ----------
    device
        A node, a USB port, or a path below /sys; otherwise all that no profile matches.
    database
        What `udevadm info --export-db` printed on another host; otherwise the devices of this one.
    folder
        Where the admin's profiles are; otherwise /etc/jumpstarter/profiles.d.
    """
    from jumpstarter_exporter.cli.profiles import suggest_profiles  # noqa: PLC0415

    return suggest_profiles(device, database=database, folder=folder)
