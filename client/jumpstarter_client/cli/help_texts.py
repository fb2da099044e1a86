"""The help of each command. It is apart from the commands, so that printing it loads nothing else."""

from __future__ import annotations

from jumpstarter_client.cli import command_options
from jumpstarter_client.cli.command_options import help_lines

__all__ = ["HELP"]

DEVICES = """Usage: jumpstarter devices [-o json|yaml|name]

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

TEST = """Usage: jumpstarter test FILE.yaml [FILE.yaml ...] [OPTION ...]

Run tests that are written in YAML. All files are checked, also against the devices, before a board is used.

  jumpstarter test boot.yaml
  jumpstarter test boot.yaml network.yaml --set image=build/sd.img.xz --junit results.xml
  jumpstarter test boot.yaml --check            only check the files
  jumpstarter test --steps                      list the available steps
  jumpstarter test --schema > jumpstarter-test.schema.json

Options:
@TEST@  -o json|yaml|name    print the results as data

Ctrl-C ends the current step and continues with `always:`; a second Ctrl-C ends that as well.
Exit codes: 0 passed, 1 failed, 7 all skipped, 130 interrupted, 2 to 5 could not run (docs/exit-codes.md).
"""

CALL = """Usage: jumpstarter call DEVICE [METHOD [ARGUMENT ...]] [-o json|yaml]

Call a method of a device's driver, for devices without commands of their own. Without a METHOD, or with `help`, list
the methods. An ARGUMENT is JSON, such as 5, true, null or '{"a": [1]}', or else text; '"5"' is the text 5. The results
of a streaming method are printed one by one until it ends, or until Ctrl-C.

  jumpstarter call rpi4.can help
  jumpstarter call rpi4.power on
  jumpstarter call rpi4.shell call_method uptime '{}' -l board=rpi4
"""

EXPORTERS = """Usage: jumpstarter exporters [show NAME] [-l SELECTOR] [--watch] [-o json|yaml|name] [--client FILE]

List the exporters of a controller: which are free, who uses the others and until when, which are disabled or offline.

  jumpstarter exporters
  jumpstarter exporters -l board=rpi4 --watch       until Ctrl-C; in a pipe, one line per change
  jumpstarter exporters show NAME                   one exporter with its devices, and why one is not ready
  jumpstarter exporters -o json | jq -r '.exporters[] | select(.state == "free") | .name'
  jumpstarter exporters --watch -o json             one JSON object per line, for each change

States are free, leased, busy (between two leases), offline and disabled.
"""

LEASE = """Usage: jumpstarter lease create|list|show|extend|transfer|release [ARGUMENT ...] [--client FILE]

A lease reserves a board of a controller for you for some time. `-l board=rpi4` on any command leases a board for that
command; these commands keep a board for longer, for later, or for somebody else. Later commands use the board that you
created a lease for here: with -l or --exporter if it fits (with --new they lease another one), without either if this
machine has no exporter.

  jumpstarter lease create -l board=rpi4 --duration 2h    wait until the board is yours; Ctrl-C cancels
  jumpstarter lease create -n rpi4-1 --no-wait            a certain board; stay in the queue in the background
  jumpstarter lease create -l board=rpi4 --begin-time 2027-01-31T08:00 --duration 4h
  export JMP_LEASE=$(jumpstarter lease create -l board=rpi4 -o name)
  jumpstarter lease list                                  your leases; -A: of all clients; -a: also ended ones
  jumpstarter lease list --watch                          until Ctrl-C; in a pipe, one line per change
  jumpstarter lease show                                  your only lease, or NAME
  jumpstarter lease extend 30m                            30 minutes more; --total 2h: two hours from its start
  jumpstarter lease transfer NAME bob
  jumpstarter lease release                               your only lease; or NAME, -l SELECTOR, or --all

NAME may be the beginning or the end of a generated name, at least four characters; `list` shows the end. Inside
`jumpstarter shell`, the lease of the shell needs no name.

Options of create:
  -l SELECTOR            labels of the board: k=v, k!=v, 'k in (a,b)', k, '!k'; joined with commas
  --duration TIME        such as 90 (seconds), 30m, 1h30m, 1d (default: 30m)
@LEASE_CREATE@  --wait-for-board       wait if no such board exists yet
  --acquisition-timeout TIME   how long to wait (default: 2h)
Options of list and release:
  -l SELECTOR            leases that were requested with these labels
@LEASE_LIST@"""

LOGIN = """Usage: jumpstarter login [HOST:PORT] [--pairing-code | --name NAME | --issuer URL] [OPTION ...]

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
@LOGIN@With a pairing code:
@LOGIN_BY_CODE@With a token:
@LOGIN_BY_TOKEN@With an OpenID provider:
@LOGIN_BY_ISSUER@"""

AUTH = """Usage: jumpstarter auth status|rotate|refresh [-o json|yaml] [--client FILE]

Show or replace the token with which you are logged in to a controller. The token itself is never printed.

  jumpstarter auth status                   your client name, when the token expires, whether the controller accepts it
  jumpstarter auth status --client lab      for another configuration than the current one
  jumpstarter auth status -o json | jq .seconds_left
  jumpstarter auth rotate                   replace the token; the old one stays valid for one day
  jumpstarter auth refresh                  get a new token from the OpenID provider; commands do this automatically
"""

CONFIG = """Usage: jumpstarter config client create|delete|list|use|show [NAME] [ARGUMENT ...]

Manage client configurations: which client you are on which controller. They are files that only you can read, in
Jumpstarter's own format, in ~/.config/jumpstarter/clients. `jumpstarter login` creates one, too.

  jumpstarter config client list                  * marks the current one
  jumpstarter config client use lab
  jumpstarter config client show                  the current one, without its token
  jumpstarter config client delete lab
  pass lab/token | jumpstarter config client create lab --endpoint lab.example:8082 --name ann
  jumpstarter config client create lab --endpoint lab.example:8082 --name ann --token-file token --ca ca.pem

Options of create:
@CONFIG_CREATE@"""

DRIVER = """Usage: jumpstarter driver new NAME --kind power|serial|storage|network
       jumpstarter driver list [-o json|yaml|name]

Create a Python package for your own driver in the new folder NAME, with a test that passes. Change any part of it.

  jumpstarter driver new lab-relay --kind power
  cd lab-relay
  python -m pytest        # needs `pip install pytest`
  pip install .            # on the host of the exporter; then use `type: lab-relay.LabRelay`

`driver list` prints the drivers that are installed here, as `type:` names them.
"""

JMP = """Usage: jumpstarter jmp install [--dir DIR]

Write a script `jmp` for users of Jumpstarter's own client. It runs `jumpstarter`, which understands the commands of
`jmp`; for a command that is found elsewhere, the error says where. Another program of that name is never replaced.

  jumpstarter jmp install                    beside `jumpstarter`
  jumpstarter jmp install --dir ~/.local/bin
  jmp get exporters

`jumpstarter completion --help` shows how a shell completes it.
"""

_TABLES = {
    "@CONFIG_CREATE@": help_lines(command_options.CONFIG_CREATE, 26),
    "@LEASE_CREATE@": help_lines(command_options.LEASE_CREATE, 22),
    "@LEASE_LIST@": help_lines(command_options.LEASE_LIST, 22),
    "@LOGIN@": help_lines(command_options.LOGIN, 24),
    "@LOGIN_BY_CODE@": help_lines(command_options.LOGIN_BY_CODE, 24),
    "@LOGIN_BY_TOKEN@": help_lines(command_options.LOGIN_BY_TOKEN, 24),
    "@LOGIN_BY_ISSUER@": help_lines(command_options.LOGIN_BY_ISSUER, 24),
    "@TEST@": help_lines(command_options.TEST, 20),
}
"""The lines of options, which come from their tables."""

_TEXTS = {
    "devices": DEVICES,
    "shell": SHELL,
    "test": TEST,
    "call": CALL,
    "exporters": EXPORTERS,
    "lease": LEASE,
    "login": LOGIN,
    "auth": AUTH,
    "config": CONFIG,
    "driver": DRIVER,
    "jmp": JMP,
}


def _with_options(text: str) -> str:
    for placeholder, lines in _TABLES.items():
        text = text.replace(placeholder, lines)
    return text


HELP = {command: _with_options(text) for command, text in _TEXTS.items()}
"""By command."""
