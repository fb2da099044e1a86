"""The help of each command. It is apart from the commands, so that printing it loads nothing else."""

from __future__ import annotations

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
  --set NAME=VALUE     set a variable of the tests
  --board NAME         use this board, or BOARD.DEVICE, instead of the one that a test names
  --results DIR        create the folder of the run here (jumpstarter-results); it has consoles, times and a summary
  --no-results         keep no files
  --junit FILE         write results for CI
  --check              check the files, without an exporter
  --steps, --schema    print the installed steps, or the JSON Schema of test files
  -o json|yaml|name    print the results as data

Ctrl-C ends the current step and continues with `always:`; a second Ctrl-C ends that as well.
Exit codes: 0 passed, 1 failed, 7 all skipped, 130 interrupted, 2 to 5 could not run (docs/exit-codes.md).
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
command; these commands keep a board for longer, for later, or for somebody else.

  jumpstarter lease create -l board=rpi4 --duration 2h    wait until the board is yours; Ctrl-C cancels
  jumpstarter lease create -n rpi4-1 --no-wait            a certain board; stay in the queue in the background
  jumpstarter lease create -l board=rpi4 --begin-time 2027-01-31T08:00 --duration 4h
  export JMP_LEASE=$(jumpstarter lease create -l board=rpi4 -o name)
  jumpstarter lease list                                  your leases; -A: of all clients; -a: also ended ones
  jumpstarter lease list --watch                          until Ctrl-C; in a pipe, one line per change
  jumpstarter lease show NAME
  jumpstarter lease extend NAME 30m                       30 minutes more; --total 2h: two hours from its start
  jumpstarter lease transfer NAME bob
  jumpstarter lease release NAME                          or -l SELECTOR, or --all

Inside `jumpstarter shell`, the lease of the shell needs no name: jumpstarter lease extend 30m

Options of create:
  -l SELECTOR            labels of the board: k=v, k!=v, 'k in (a,b)', k, '!k'; joined with commas
  -n, --exporter NAME    one board, by the name of its exporter
  --duration TIME        such as 90 (seconds), 30m, 1h30m, 1d (default: 30m)
  --begin-time TIME      start time in ISO 8601; the command does not wait for it
  --lease-id NAME        name of the lease
  --tag KEY=VALUE        tag for `list --tag-filter KEY=VALUE`; may be repeated
  --context KEY=VALUE    passed to the exporter's hooks
  --allow-disabled       also boards that are disabled
  --no-wait              do not wait until the board is ready
  --wait-for-board       wait if no such board exists yet
  --acquisition-timeout TIME   how long to wait (default: 2h)
Options of list and release:
  -l SELECTOR            leases that were requested with these labels
  --tag-filter SELECTOR  leases with these tags
  -A, --all-clients      leases of all clients (list)
  -a, --all              list: also ended leases; release: all your leases
  --watch                show changes, places in the queue, and how each lease ends (list)
"""

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
  -e, --endpoint HOST:PORT   address of the controller
  --name NAME                name of the client (default: NAME of the configuration)
  --namespace NAME           namespace of the client (default: `default`)
  --token-file FILE          read the token from this file instead of standard input
  --ca FILE                  trust certificates that are issued by this CA (PEM)
  -k, --insecure-tls         trust any certificate of the controller
  -a, --allow PATTERN        client classes of other packages that may be loaded; --unsafe: all
"""

DRIVER = """Usage: jumpstarter driver new NAME --kind power|serial|storage|network

Create a Python package for your own driver in the new folder NAME, with a test that passes. Change any part of it.

  jumpstarter driver new lab-relay --kind power
  cd lab-relay
  python -m pytest
  pip install .            # on the host of the exporter; then use `type: lab-relay.LabRelay`
"""

HELP = {
    "devices": DEVICES,
    "shell": SHELL,
    "test": TEST,
    "exporters": EXPORTERS,
    "lease": LEASE,
    "login": LOGIN,
    "auth": AUTH,
    "config": CONFIG,
    "driver": DRIVER,
}
"""By command."""
