"""What `--help` prints, word for word. None of it needs an exporter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.conftest import FakeExporter

MAIN = """\
Usage: jumpstarter COMMAND [ARGUMENT ...]

Use the boards of an exporter: the one that JUMPSTARTER_HOST names, the daemon on this machine, or one that is started
for the command from its configuration.

  jumpstarter devices                       list the devices
  jumpstarter power cycle rpi4              INTERFACE VERB [DEVICE]; the device is optional if there is only one
  jumpstarter serial start-console rpi4
  jumpstarter storage flash rpi4 image.img.xz
  jumpstarter test boot.yaml                run a test that is written in YAML
  jumpstarter shell -- pytest               sets JUMPSTARTER_HOST for the command; `j` is the device tree

Commands:
  devices     list the devices of the exporter with their states
  shell       start a shell, or run a command, that is connected to the exporter
  test        run tests that are written in YAML
  call        call a method of any device by its name
  exporters   list the boards of a controller and who uses them
  lease       keep a board of a controller for longer than one command
  login       log in to a controller
  auth        show or replace your token for a controller
  config      manage the configurations of controllers
  completion  print completion for bash, zsh or fish
  driver      create a Python package for your own driver, or list drivers
  jmp         install a script `jmp` for users of Jumpstarter's own client
  version     print the version

Interfaces (`jumpstarter INTERFACE --help` lists the verbs):
  files       serve files to a board by HTTP and TFTP
  gpio        read, await and set single lines
  network     reach services that only the board's host can reach
  power       switch and measure a board's power
  qemu        configure a virtual machine
  serial      use a board's console, and see what it has printed
  ssh         run commands and shells on a board by SSH
  storage     flash a board's SD card or disk, and switch it between host and board
  uboot       run commands in the boot loader U-Boot
  video       see, save and record pictures of a board

Options of every command:
  --host HOST          connect to this exporter: the path of a socket, or HOST:PORT (default: JUMPSTARTER_HOST)
  --board NAME         use this board of a host with several (default: JUMPSTARTER_BOARD)
  --override           use a board of this machine although it is leased; its user is notified
  --config FILE        start an exporter from this file for the command
  -l SELECTOR          lease a board from a controller by its labels, such as board=rpi4
  --exporter NAME      use this machine's exporter configuration of that name, or lease the exporter of that name
  --lease NAME         use an existing lease
  --wait-for-board     with -l or --exporter: wait if no such board exists yet
  --new                with -l or --exporter: lease another board, also if one of your leases fits
  --duration TIME      length of the lease, such as 2h (default: 30m)
  --client FILE        use this client configuration for the controller: a file, or its name
  --log-level LEVEL    debug, info, warning, error or critical; debug also prints tracebacks
  --exporter-logs      show the exporter's log while the command runs
  -o json|yaml|name    machine-readable output, where the command has one
"""

POWER = """\
Usage: jumpstarter power VERB [DEVICE] [ARGUMENT ...]

  on      Switch the board on.
  off     Switch the board off.
  cycle   Switch the board off, wait, and switch it on.
  read    Measure voltage, current and power.
  status  Ask the power switch for its state: on, off, partial or unknown; not each kind can report it.
  rescue  Start the board in its rescue mode, if the power switch has one.

  jumpstarter power on rpi4
  jumpstarter power on --help
"""

CYCLE = """\
Usage: jumpstarter power cycle [DEVICE] [ARGS]

Switch the board off, wait, and switch it on.

An interrupted cycle (Ctrl-C, a lost connection) switches the board on at once.

╭─ Parameters ─────────────────────────────────────────────────────────────────────────────────────────────────────────╮
│ WAIT --wait -w  Seconds without power. [default: 2.0]                                                                │
╰──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────╯
"""

DEVICES = """\
Usage: jumpstarter devices [-o json|yaml|name]

List the devices of the exporter with their states and the reasons. On a host with several boards, list the devices of
all boards, as BOARD.DEVICE.

  jumpstarter devices
  jumpstarter devices -o name           one path per line, for scripts
  jumpstarter devices -o json | jq -r '.[] | select(.state == "failed") | .path'
"""

SHELL = """\
Usage: jumpstarter shell [--host HOST | --board NAME | --config FILE | -l SELECTOR | -n NAME] [-- COMMAND ...]

Start a shell in which JUMPSTARTER_HOST is the exporter and `j` is its device tree. With a COMMAND, run that instead
of a shell and return its exit code. Exit codes of its own: 126 if the command cannot be run, 127 if it is not found, 8
if the lease of the board ended first.

  jumpstarter shell
  jumpstarter shell -- j power on
  jumpstarter shell --board rpi4                     one of the boards of a host
  jumpstarter shell -l board=rpi4 --duration 2h      a board of a controller, leased until the shell ends
  jumpstarter shell -n rpi4-1                        a board of a controller, by the name of its exporter
  jumpstarter shell --exporter rpi4                  this machine's configuration of that name, or else as -n
  jumpstarter shell --lease NAME                     an existing lease, which is not released when the shell ends
  jumpstarter shell --config rpi4.yaml -- pytest     an exporter that is started from this file

On a host with several boards, --board or JUMPSTARTER_BOARD selects one, for all commands inside; `jumpstarter devices`
lists them.

Five minutes before a lease ends, the shell prints a warning; `jumpstarter lease extend 30m` inside extends the lease.

  --acquisition-timeout TIME   how long to wait for a board (2h)
  --retry-timeout TIME         how long to lease other boards if one is not reachable (5m); 0: not at all
  --dial-timeout TIME          how long to try to connect to the board (60)
  --exporter-logs              show the whole log of the exporter, not only the output of its hooks
"""

LOGIN = """\
Usage: jumpstarter login [HOST:PORT] [--pairing-code | --name NAME | --issuer URL] [OPTION ...]

Log in to a controller as a client. If the controller accepts an OpenID provider, log in there. Otherwise the
administrator gives you a pairing code (`jumpstarter-controller admin pair client ann`), which works once, or a token.
The login is saved as a client configuration that only you can read.

  jumpstarter login lab.example.org:8082                     log in on a web page, in any browser
  jumpstarter login lab.example.org:8082 --browser           log in with the browser of this machine
  jumpstarter login                                          log in again with the current configuration
  jumpstarter login lab.example.org:8082 --pairing-code
  jumpstarter login 192.168.1.5:8082 --pairing-code --tls-fingerprint 3F:A0:…
  vault read -field=token lab/ann | jumpstarter login lab.example.org:8082 --name ann

Codes and tokens are prompted for, or read from stdin or a file; never from the command line, which all users of this
machine can read.

Options:
  --tls-fingerprint HEX    SHA-256 of a self-signed certificate; the controller prints it when it starts
  --alias ALIAS            name of the configuration (default: the name of the client)
  --namespace NAMESPACE    namespace of the client (default: `default`)
  --allow PATTERN          client classes of other packages that may be loaded (default: `jumpstarter_driver_*`)
  --unsafe                 allow all client classes that an exporter names
With a pairing code:
  --pairing-code           prompt for the code, or take it from JMP_PAIRING_CODE
  --code-file FILE         read the code from this file
With a token:
  --name NAME              name of the client; the token may be in JMP_TOKEN
  --token-file FILE        read the token from this file
With an OpenID provider:
  --issuer URL             which provider, if the controller accepts several or does not list them
  --client-id ID           OAuth client id (default: `jumpstarter-cli`)
  --browser                use the browser of this machine instead of a code on a web page
  --callback-port PORT     fixed port for the redirect of that browser, if the provider requires one
"""

AUTH = """\
Usage: jumpstarter auth status|rotate|refresh [-o json|yaml] [--client FILE]

Show or replace the token with which you are logged in to a controller. The token itself is never printed.

  jumpstarter auth status                   your client name, when the token expires, whether the controller accepts it
  jumpstarter auth status --client lab      for another configuration than the current one
  jumpstarter auth status -o json | jq .seconds_left
  jumpstarter auth rotate                   replace the token; the old one stays valid for one day
  jumpstarter auth refresh                  get a new token from the OpenID provider; commands do this automatically
"""

PAGES = [
    (["--help"], MAIN),
    (["-h"], MAIN),
    ([], MAIN),
    (["power", "--help"], POWER),
    (["power", "cycle", "--help"], CYCLE),
    (["power", "cycle", "rpi4", "-h"], CYCLE),
    (["devices", "--help"], DEVICES),
    (["shell", "--help"], SHELL),
    (["login", "--help"], LOGIN),
    (["auth", "-h"], AUTH),
]


@pytest.mark.parametrize(("words", "page"), PAGES)
def test_help_says_this(command: Command, words: list[str], page: str) -> None:
    done = command("jumpstarter", *words)
    assert "\n".join(line.rstrip() for line in done.out.splitlines()) == page.rstrip()
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize("interface", ["network", "power", "serial", "storage"])
def test_every_verb_of_every_interface_has_help(command: Command, interface: str) -> None:
    listed = command("jumpstarter", interface, "--help").out.splitlines()
    verbs = [line.split()[0] for line in listed if line.startswith("  ") and not line.startswith("  jump")]
    assert verbs
    for verb in verbs:
        done = command("jumpstarter", interface, verb, "--help")
        assert done.code == 0
        assert f"jumpstarter {interface} {verb} [DEVICE]" in done.out


def test_verb_that_needs_no_device_is_listed_apart(command: Command) -> None:
    listed = command("jumpstarter", "storage", "--help").out
    assert "\nWithout a device:\n  jumpstarter storage inspect  Print the type" in listed
    done = command("jumpstarter", "storage", "inspect", "--help")
    assert (done.code, done.out.splitlines()[0]) == (0, "Usage: jumpstarter storage inspect FILE")


def test_an_interface_without_a_verb_shows_its_verbs_and_fails(command: Command) -> None:
    done = command("jumpstarter", "power")
    assert (done.code, done.out) == (2, POWER)


def test_j_explains_a_verb_with_the_words_that_lead_to_it(command: Command, lab: FakeExporter) -> None:
    done = command("j", "rpi4", "power", "cycle", "--help")
    assert done.out.startswith("Usage: j rpi4 power cycle [ARGS]")
    assert lab.called == []


def test_help_of_a_verb_needs_no_library_for_markup() -> None:
    """The Debian packages leave them out."""
    code = (
        "import sys; from jumpstarter_client.cli import main; sys.modules.update(dict.fromkeys("
        "['markdown_it', 'pygments', 'rich_rst'])); sys.argv = ['jumpstarter', 'power', 'cycle', '--help']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Switch the board off, wait, and switch it on." in done.stdout
