"""`jumpstarter config client …`: manage client configurations. Tokens are never on the command line or the screen."""

from __future__ import annotations

import base64
import os
import sys
from getpass import getpass
from pathlib import Path

from jumpstarter_proto.errors import ExitCode, JumpstarterError
from jumpstarter_proto.remote import Identity, Kind, Trust, split_endpoint
from jumpstarter_proto.terminal import print_error_line, print_line

from jumpstarter_client.cli.arguments import Arguments, parse_arguments
from jumpstarter_client.cli.command_options import CONFIG_CREATE
from jumpstarter_client.cli.options import GlobalOptions, take_output
from jumpstarter_client.cli.output import print_table, write_data
from jumpstarter_client.command_errors import UsageError, nearest
from jumpstarter_client.identity.client_config import ClientConfig, config_home, load
from jumpstarter_client.identity.config_files import ConfigFiles

__all__ = ["config"]

_VERBS = {
    "create": "create",
    "c": "create",
    "delete": "delete",
    "del": "delete",
    "d": "delete",
    "list": "list",
    "ls": "list",
    "use": "use",
    "show": "show",
}
_NOUNS = ("client", "clients", "c")
MAX_TOKEN = 64 * 1024


def config(arguments: list[str], options: GlobalOptions) -> ExitCode:
    """Run the command."""
    noun, word, *rest = arguments
    if noun not in _NOUNS:
        if noun in ("exporter", "exporters", "e"):
            raise UsageError(
                "an exporter is configured where it runs: `jumpstarter-exporter enrol` gives it an identity, and "
                "`jumpstarter-exporter boards` lists its boards"
            )
        raise UsageError(f"unknown noun {noun!r}; use `jumpstarter config client`")
    if word not in _VERBS:
        raise UsageError(f"`config client` has no verb {word!r}{nearest(word, set(_VERBS.values()))}")
    verb = _VERBS[word]
    output, rest = take_output(rest, ("json", "yaml", "name", "path"))
    output = output or options.output
    command = f"config client {verb}"
    parsed = parse_arguments(command, rest, CONFIG_CREATE if verb == "create" else ())
    if len(parsed.words) > 1:
        raise UsageError(f"`{command}` takes one name; {parsed.words[1]!r} is too much")

    files = ConfigFiles(config_home(os.environ))
    if verb == "list":
        _list(files, output)
        return ExitCode.OK
    name = parsed.words[0] if parsed.words else None
    if verb == "show":
        _show(name or options.client, output)
        return ExitCode.OK
    if name is None:
        raise UsageError(f"no configuration named; use `jumpstarter {command} NAME`")
    match verb:
        case "create":
            path = _create(name, parsed, files)
            sentence = f"created {path}; `jumpstarter config client list` lists all"
        case "delete":
            path = files.delete(name)
            sentence = f"deleted {path}"
        case _:
            files.use(name)
            path = files.path(name)
            sentence = f"{name} is now the current configuration"
    print_line(str(path) if output == "path" else sentence)
    return ExitCode.OK


def _create(name: str, parsed: Arguments, files: ConfigFiles) -> Path:

    path = files.path(name)
    if path.exists():
        raise UsageError(
            f"the configuration {name!r} already exists; delete it first: jumpstarter config client delete {name}"
        )
    endpoint = parsed.one("--endpoint")
    if not endpoint:
        raise UsageError("no controller named; use --endpoint HOST:PORT")
    split_endpoint(endpoint)
    ca = parsed.one("--ca")
    trust = Trust(ca=_ca(ca) if ca else "", insecure="--insecure-tls" in parsed.flags)
    identity = Identity(
        Kind.CLIENT,
        parsed.one("--namespace") or "default",
        parsed.one("--name") or name,
        _token(parsed.one("--token-file")),
    )
    allow = [part for text in parsed.values.get("--allow", []) for part in text.split(",") if part]
    unsafe = "--unsafe" in parsed.flags
    return files.save(name, ClientConfig(endpoint, identity, trust, allow=tuple(allow), unsafe=unsafe))


def _token(file: str | None) -> str:
    if file:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_TOKEN + 1)
    elif sys.stdin.isatty():
        raw = getpass("Token (it is not shown): ").encode()
    else:
        raw = sys.stdin.buffer.read(MAX_TOKEN + 1)
    token = raw.decode("ascii", "replace").strip()
    if not token or len(raw) > MAX_TOKEN or not token.isascii() or any(c.isspace() for c in token):
        where = file or "standard input"
        raise JumpstarterError(f"no valid token in {where}; a token is one word without spaces")
    return token


def _ca(file: str) -> str:

    pem = Path(file).read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise UsageError(
            f"{file} is not a certificate in PEM format; convert it with `openssl x509 -inform der`"
        )
    return base64.b64encode(pem).decode()


def _list(files: ConfigFiles, output: str | None) -> None:

    current = files.current()
    rows: list[dict[str, object]] = []
    for alias in files.aliases():
        path = files.path(alias)
        row: dict[str, object] = {"alias": alias, "current": alias == current, "path": str(path)}
        try:
            found = load(str(path), os.environ)
        except JumpstarterError as error:
            rows.append(row | {"endpoint": "", "namespace": "", "name": "", "error": str(error)})
        else:
            who = found.identity
            rows.append(row | {"endpoint": found.endpoint, "namespace": who.namespace, "name": who.name})
    if output in ("name", "path"):
        key = "alias" if output == "name" else "path"
        for row in rows:
            print_line(str(row[key]))
    elif output:
        write_data({"clients": rows}, output)
    elif not rows:
        print_error_line("no client configuration; `jumpstarter login` creates one")
    else:
        keys = ("alias", "endpoint", "namespace", "name", "error")
        shown = [("*" if row["current"] else "", *(str(row.get(key, "")) for key in keys)) for row in rows]
        print_table(("", "ALIAS", "ENDPOINT", "NAMESPACE", "NAME", ""), shown)


def _show(name: str | None, output: str | None) -> None:

    found = load(name, os.environ)
    if output == "path":
        print_line(str(found.path or ""))
    elif output == "name":
        print_line(found.path.stem if found.path else "")
    elif output:
        write_data(_data(found), output)
    else:
        for key, value in _data(found).items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print_line(f"{key.replace('_', ' ') + ':':<21} {shown}")


def _data(found: ClientConfig) -> dict[str, object]:
    """Everything except the token."""
    trust = "its own CA" if found.trust.ca else "the system's CAs"
    return {
        "file": str(found.path or "(the environment)"),
        "endpoint": found.endpoint,
        "namespace": found.identity.namespace,
        "name": found.identity.name,
        "token": "set (not shown)",
        "trust": "any certificate" if found.trust.insecure else trust,
        "drivers": "all" if found.unsafe else list(found.allow) or "our own",
        "acquisition_timeout": found.acquisition_timeout,
        "dial_timeout": found.dial_timeout,
        "retry_timeout": found.retry_timeout,
    }
