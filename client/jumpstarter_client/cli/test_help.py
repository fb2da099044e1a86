"""What `--help` prints, word for word. None of it needs an exporter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jumpstarter_client.cli.conftest import Command
from jumpstarter_client.conftest import FakeExporter

MAIN = """\
Usage: jumpstarter COMMAND [ARGUMENT ...]

Use the boards of an exporter: the one that JUMPSTARTER_HOST names, the one that runs on this machine, or one that
is started for the command from its configuration.

  jumpstarter devices                       what there is, what is ready
  jumpstarter power cycle rpi4              INTERFACE VERB [DEVICE]; the device may be left out if it is the only one
  jumpstarter serial start-console rpi4
  jumpstarter storage flash rpi4 image.img.xz
  jumpstarter test boot.yaml                a test of steps, written in YAML
  jumpstarter shell -- pytest               JUMPSTARTER_HOST is set inside, and `j` is the device tree

Commands:
  devices     list the devices
  shell       a shell, or a command, with the exporter in its environment
  test        run tests that are written in YAML
  exporters   the boards of a controller: which are free, who has the others and until when
  lease       boards of a controller for longer than a command: create, list, extend, release
  login       become a client of a controller
  auth        your token there: until when it counts, and a new one
  config      who you are to which controller
  completion  completion for bash, zsh or fish
  driver      write a package with a driver of your own, to begin with
  version     what this is

Interfaces (`jumpstarter INTERFACE --help` lists the verbs):
  network
  power
  serial
  storage
  uboot
  video

Options of every command:
  --host HOST          an exporter's socket or HOST:PORT, instead of JUMPSTARTER_HOST
  --board NAME         one of the boards of a host that serves several, instead of JUMPSTARTER_BOARD
  --override           take part in the lease of a board of this machine that somebody has; its user is told
  --config FILE        start an exporter from this file, for this command only
  -l SELECTOR          lease a board of a controller by its labels, such as board=rpi4
  --exporter NAME      this machine's configuration of that name, else the controller's exporter of that name
  --lease NAME         use a lease that there is
  --wait-for-board     with -l or --exporter: if there is no such board yet, wait for one to appear
  --duration TIME      of the lease, such as 2h; 30m if left out
  --client FILE        who you are to the controller; a file or the name of one
  --log-level LEVEL    debug, info, warning, error or critical; debug shows where an error came from
  --exporter-logs      show the exporter's log while the command runs
  -o json|yaml|name    output for scripts, where there is any
"""

POWER = """\
Usage: jumpstarter power VERB [DEVICE] [ARGUMENT ...]

  on      Switch the board on.
  off     Switch the board off.
  cycle   Switch the board off, wait, and switch it on.
  read    Measure voltage, current and power.
  rescue  Start the board in its rescue mode, where the power switch has one.

  jumpstarter power on rpi4
  jumpstarter power on --help
"""

CYCLE = """\
Usage: jumpstarter power cycle [DEVICE] [ARGS]

Switch the board off, wait, and switch it on.

An interrupted cycle (Ctrl-C, a lost connection) switches the board on at once.

╭─ Parameters ─────────────────────────────────────────────────────────────────────────────────────╮
│ WAIT --wait -w  Seconds without power. [default: 2.0]                                            │
╰──────────────────────────────────────────────────────────────────────────────────────────────────╯
"""

DEVICES = """\
Usage: jumpstarter devices [-o json|yaml|name]

The devices of the exporter, with what is ready and what is not, and why; on a host with several boards those of
all of them, as BOARD.DEVICE.

  jumpstarter devices
  jumpstarter devices -o name           one path a line, for scripts
  jumpstarter devices -o json | jq -r '.[] | select(.state == "failed") | .path'
"""

SHELL = """\
Usage: jumpstarter shell [--host HOST | --board NAME | --config FILE | -l SELECTOR | -n NAME] [-- COMMAND ...]

A shell in which JUMPSTARTER_HOST names the exporter and `j` is its device tree. With a command, that instead of a
shell; its exit code is this command's. 126 and 127 mean that the command cannot be run, or is not there; 8 that the
lease of the board ended first.

  jumpstarter shell
  jumpstarter shell -- j power on
  jumpstarter shell --board rpi4                     that one of the boards of a host
  jumpstarter shell -l board=rpi4 --duration 2h      a board of a controller, leased until the shell ends
  jumpstarter shell -n rpi4-1                        that one, by the name of its exporter
  jumpstarter shell --exporter rpi4                  this machine's configuration of that name, else as -n
  jumpstarter shell --lease NAME                     a lease that there is; it stays when the shell ends
  jumpstarter shell --config rpi4.yaml -- pytest     an exporter of its own, from that file

On a host that serves several boards, --board or JUMPSTARTER_BOARD says which; `jumpstarter devices` names them. All
commands inside use that one.

Of a leased board it says five minutes before when the lease ends; inside, `jumpstarter lease extend 30m` goes on.

  --acquisition-timeout TIME   how long to wait for a board (2h)
  --retry-timeout TIME         how long to lease others when one cannot be reached (5m); 0: not at all
  --dial-timeout TIME          how long to try for one connection (60)
  --exporter-logs              show all that the exporter logs, and not only what its hooks print
"""

LOGIN = """\
Usage: jumpstarter login [HOST:PORT] [--pairing-code | --name NAME | --issuer URL] [OPTION ...]

Become a client of a controller. Where it knows your company's or lab's OpenID provider you log in there. Otherwise who
runs it gives you a pairing code (`jumpstarter-controller admin pair client ann`), which is good once, or a token.
What comes of it is a configuration that only you can read.

  jumpstarter login lab.example.org:8082                     log in on a page, in any browser
  jumpstarter login lab.example.org:8082 --browser           in this machine's
  jumpstarter login                                          once more, with the current configuration
  jumpstarter login lab.example.org:8082 --pairing-code
  jumpstarter login 192.168.1.5:8082 --pairing-code --tls-fingerprint 3F:A0:…
  vault read -field=token lab/ann | jumpstarter login lab.example.org:8082 --name ann

A code or a token is asked for, or read from stdin, or from a file; never from the command line, which everybody on this
machine can read.

Options:
  --tls-fingerprint HEX    SHA-256 of the controller's certificate, if it made its own; it printed it at its start
  --alias ALIAS            what to call the configuration; the client's name if left out
  --namespace NAMESPACE    of the client; `default` if left out
  --allow PATTERN          client classes of others' drivers that may be loaded; `jumpstarter_driver_*` if left out
  --unsafe                 all of them, whatever an exporter names
With a pairing code:
  --pairing-code           JMP_PAIRING_CODE may have it
  --code-file FILE         the code is in that file
With a token:
  --name NAME              whose it is; JMP_TOKEN may have it
  --token-file FILE        the token is in that file
With a login:
  --issuer URL             where, if the controller knows several, or does not say
  --client-id ID           as what; `jumpstarter-cli` if left out
  --browser                with this machine's browser, instead of a code that is typed on a page
  --callback-port PORT     where that browser comes back to, if the issuer wants it to be always the same
"""

AUTH = """\
Usage: jumpstarter auth status|rotate|refresh [-o json|yaml] [--client FILE]

The token with which you are a client of a controller. It is never shown.

  jumpstarter auth status                   who you are, until when, and whether the controller takes it
  jumpstarter auth status --client lab      of another configuration than the current one
  jumpstarter auth status -o json | jq .seconds_left
  jumpstarter auth rotate                   a new token in place of it; the old one counts for a day more
  jumpstarter auth refresh                  a new token of another issuer; commands do that by themselves in time
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
    assert "\nWithout a device:\n  jumpstarter storage inspect  Say what FILE is" in listed
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
