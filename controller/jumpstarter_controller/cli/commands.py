"""The commands of `jumpstarter-controller` and their options. What a command needs is loaded when it runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number
from jumpstarter_proto.durations import parse_duration
from jumpstarter_proto.installed import installed_version
from jumpstarter_proto.remote import Kind
from jumpstarter_proto.shell_completion import add_completion
from jumpstarter_proto.terminal import print_line

from jumpstarter_controller.cli.command import CONTROLLER, ROUTER_PORT, Level, LogFormat
from jumpstarter_controller.cli.pair import pair

__all__ = ["app"]

Format = Literal["table", "json", "yaml", "name"]

app = App(
    name=CONTROLLER,
    help="""Hand out a lab's boards: leases, and connections through a router.

One process is enough for a small lab:

    jumpstarter-controller run --with-router
    jumpstarter-controller admin pair host pi4
    jumpstarter-controller admin pair client ann

The last two say what to type on the other machine, and the code for it.
""",
    help_format="plaintext",
    version=installed_version,
    version_flags=["--version"],
    result_action="return_value",
    default_parameter=Parameter(negative_iterable=""),
)
add_completion(app)


def _with_example(sentence: str, example: str) -> str:
    # Where all lines but the first are indented, the help loses their indent, and wraps them as a paragraph.
    return f"{sentence}\n\nFor example:\n\n    {example}\n"


admin = App(
    name="admin", help="Manage clients, hosts, exporters and tokens. Needs access to the data folder."
)
client = App(
    name="client",
    help=_with_example("Manage clients, which lease boards.", "jumpstarter-controller admin client list"),
)
exporter = App(
    name="exporter",
    help=_with_example(
        "Boards that can be leased; each is an exporter.", "jumpstarter-controller admin exporter list"
    ),
)
host = App(
    name="host",
    help=_with_example(
        "Hosts that register their boards by themselves.", "jumpstarter-controller admin host list -o json"
    ),
)
router = App(name="router", help="Files for routers that run as separate processes.")
app.command(admin)
admin.command(client)
admin.command(exporter)
admin.command(host)
admin.command(router)
policy = App(
    name="policy",
    help="Access policies: which clients may lease which exporters, with which priority and for how long.",
)
admin.command(policy)
admin.command(pair)


@app.command
def run(
    *,
    data: Path | None = None,
    store: Literal["sqlite", "kubernetes"] = "sqlite",
    namespace: str = "",
    kubeconfig: Path | None = None,
    tokens: Literal["own", "serviceaccounts"] = "own",
    jumpstarter_key: Path | None = None,
    listen: str = ":8082",
    endpoint: str | None = None,
    with_router: Annotated[bool, Parameter(negative="")] = False,
    router_listen: str = f":{ROUTER_PORT}",
    router_endpoint: str | None = None,
    replica_listen: str = ":0",
    replica_endpoint: str | None = None,
    router: Annotated[list[str] | None, Parameter(negative="")] = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    max_leases: Annotated[int, Parameter(validator=Number(gte=1))] = 256,
    keep_ended: str = "30d",
    keep_journal: str = "30d",
    max_journal_mib: Annotated[int, Parameter(validator=Number(gte=1))] = 64,
    metrics_listen: str | None = None,
    config: Path | None = None,
    log_level: Level = "info",
    log_format: LogFormat = "text",
) -> dict[str, Any]:
    """Run the controller until SIGTERM or Ctrl-C.

    It schedules the leases of the boards; with a router, it also carries their streams.

        jumpstarter-controller run --with-router
        jumpstarter-controller run --with-router --data lab --listen :9082
        jumpstarter-controller run --router munich.lab:8083,site=munich
        jumpstarter-controller run --with-router --store kubernetes --namespace lab

    Parameters
    ----------
    data
        The data folder: one SQLite file and the keys.
    store
        Where the records are stored: in that file, or in objects of a Kubernetes cluster. The keys stay in the folder.
    namespace
        Namespace of the objects; default: that of the kubeconfig or of the Pod.
    kubeconfig
        The kubeconfig file for the cluster; default: as in a Pod, or as kubectl.
    tokens
        Tokens signed by the controller's own key, or tokens of ServiceAccounts; docs/kubernetes.md compares them.
    jumpstarter_key
        A file with the CONTROLLER_KEY of a Jumpstarter 0.9 controller, whose tokens stay valid here.
    listen
        [HOST]:PORT for clients and exporters.
    endpoint
        HOST:PORT for clients and exporters, if it differs. Tokens are valid for this endpoint only.
    with_router
        Also run a router in this process.
    router_listen
        [HOST]:PORT of the router.
    router_endpoint
        HOST:PORT for clients and exporters to reach the router, if it differs.
    replica_listen
        [HOST]:PORT for the other controllers of a lab in Kubernetes; a port is chosen unless it is given.
    replica_endpoint
        HOST:PORT for the other controllers, if it differs.
    router
        HOST:PORT[,KEY=VALUE...] of a `jumpstarter-router` and the labels of its exporters; once for each.
    tls_cert
        Certificate chain in PEM; default: a certificate is created, and its fingerprint printed.
    tls_key
        The key of the certificate, in PEM.
    max_leases
        The limit of open leases of a client.
    keep_ended
        How long ended leases are kept, such as 12h or 30d; at most 5,000 of them.
    keep_journal
        How long entries of `admin journal` are kept, such as 12h or 30d.
    max_journal_mib
        The size limit of these entries on the disk, in MiB; the stricter limit applies.
    metrics_listen
        [HOST]:PORT for Prometheus and for probes: /metrics, /healthz and /readyz, over plain HTTP.
    config
        YAML file with external token issuers and the lifetime of tokens; docs/controller.md has an example.
    log_level
        The lowest level of log lines on stderr.
    log_format
        Text lines, or one JSON object for each line: time, level, message and the objects concerned.
    """
    return {
        "data": data,
        "store": store,
        "namespace": namespace,
        "kubeconfig": kubeconfig,
        "tokens": tokens,
        "jumpstarter_key": jumpstarter_key,
        "listen": listen,
        "endpoint": endpoint,
        "with_router": with_router,
        "router_listen": router_listen,
        "router_endpoint": router_endpoint,
        "replica_listen": replica_listen,
        "replica_endpoint": replica_endpoint,
        "router": router,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "max_leases": max_leases,
        "keep_ended": keep_ended,
        "keep_journal": keep_journal,
        "max_journal_mib": max_journal_mib,
        "metrics_listen": metrics_listen,
        "config": config,
        "log_level": log_level,
        "log_format": log_format,
    }


@app.command
def drain(
    *,
    reason: str = "",
    wait: Annotated[bool, Parameter(negative="")] = False,
    timeout: str = "1d",
    data: Path | None = None,
) -> int:
    """Drain the lab: no lease begins until `resume`. Active leases continue, and new ones wait in the queue.

    The lab stays drained after restarts. The controller does not have to run.

        jumpstarter-controller drain --reason "new kernel, back at 14:00"
        jumpstarter-controller drain --wait --timeout 2h && systemctl stop jumpstarter-controller

    Parameters
    ----------
    reason
        The reason, which is shown to users who wait.
    wait
        Wait until no lease is active; exit code 6 if some still are after the timeout.
    timeout
        The longest time to wait, such as 30m or 2h.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import drain as draining

    return draining.drain(reason, wait=wait, timeout=parse_duration(timeout), data=data)


@app.command
def resume(*, data: Path | None = None) -> int:
    """Resume the lab after `drain`.

    Waiting leases get their boards in the order of the queue.

        jumpstarter-controller resume

    Parameters
    ----------
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import drain as draining

    return draining.resume(data=data)


@client.command(name="create")
def create_client(
    name: str,
    /,
    *,
    namespace: str = "default",
    label: list[str] | None = None,
    oidc_username: str = "",
    save: Path | None = None,
    data: Path | None = None,
) -> int:
    """Create a client, and write its configuration to a file that only you can read.

    On the user's machine it belongs into ~/.config/jumpstarter/clients. `admin pair client` needs no such file.

        jumpstarter-controller admin client create ann --label team=kernel --save ann.yaml
        jumpstarter-controller admin client create ann --oidc-username lab:ann

    Parameters
    ----------
    name
        The name.
    namespace
        The namespace.
    label
        A label, KEY=VALUE; may be repeated.
    oidc_username
        A user of an external token issuer, with the prefix from the controller's configuration.
    save
        The file; without it no token is issued, and the user has to log in at the external issuer.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import objects

    return objects.create(
        Kind.CLIENT, name, namespace, label or [], username=oidc_username, save=save, data=data
    )


@exporter.command(name="create")
def create_exporter(
    name: str,
    /,
    *,
    namespace: str = "default",
    label: list[str] | None = None,
    oidc_username: str = "",
    save: Path | None = None,
    data: Path | None = None,
) -> int:
    """Create an exporter, and write its configuration to a file that only you can read.

    A host with several boards needs no such file: `admin pair host`.

        jumpstarter-controller admin exporter create rpi4-1 --label board=rpi4 --save rpi4-1.yaml
    """
    from jumpstarter_controller.cli import objects

    return objects.create(
        Kind.EXPORTER, name, namespace, label or [], username=oidc_username, save=save, data=data
    )


@router.command(name="create")
def create_router(endpoint: str, /, *, save: Path, data: Path | None = None) -> int:
    """Write the file that a router needs: the lab's router key and a certificate. Only you can read it.

    It prints how the router is started, and what the controller is told.

        jumpstarter-controller admin router create router-1.lab:8083 --save router-1.pem
    """
    from jumpstarter_proto.remote import split_endpoint

    from jumpstarter_controller.process.data_folder import DataFolder, default_folder
    from jumpstarter_controller.router import credentials

    certified = credentials.create(DataFolder(data or default_folder()), endpoint, save)
    _, port = split_endpoint(endpoint)
    # The router may be behind something that forwards to it, so its file names no port.
    listen = "" if port == ROUTER_PORT else f" --listen :{port}"
    tls = "" if certified else " --tls-cert CHAIN --tls-key KEY"
    print_line(f"{save}: the file of router {endpoint}")
    print_line(f"Where the router runs: jumpstarter-router --key {shlex.quote(save.name)}{listen}{tls}")
    print_line(f"For the controller: jumpstarter-controller run --router {endpoint}")
    return 0


@policy.command(name="apply")
def apply_policy(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    namespace: str = "default",
    data: Path | None = None,
) -> int:
    """Apply the policies of a file, immediately. `-` reads standard input.

    They are ExporterAccessPolicy documents as in Kubernetes. A namespace without any lets every client lease every
    exporter; with the first one, only what a policy allows is allowed. Leases that run are left alone.

        jumpstarter-controller admin policy apply policies.yaml
        jumpstarter-controller admin policy list -o yaml
    """
    from jumpstarter_controller.cli import policies

    return policies.apply(file, namespace, data=data)


@policy.command(name="list")
def list_policies(
    *,
    namespace: str = "",
    output: Annotated[Literal["table", "json", "yaml", "name"], Parameter(["--output", "-o"])] = "table",
    data: Path | None = None,
) -> int:
    """Show all policies."""
    from jumpstarter_controller.cli import policies

    return policies.listing(namespace, output, data=data)


@policy.command(name="delete")
def delete_policy(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
    """Delete a policy."""
    from jumpstarter_controller.cli import policies

    return policies.delete(name, namespace, data=data)


@admin.command(name="backup")
def make_backup(
    file: Path, /, *, overwrite: Annotated[bool, Parameter(negative="")] = False, data: Path | None = None
) -> int:
    """Write the whole lab to one file that only you can read. The controller may keep running.

    In it are all records, the keys with which tokens are signed and routers are recognised, and the certificate that
    the controller made for itself: keep it secret. The options of `run`, its --config, a certificate of --tls-cert
    and the journal are not in it.

        jumpstarter-controller admin backup lab-monday.backup
        jumpstarter-controller admin backup lab.backup --overwrite --data /var/lib/jumpstarter-controller

    Parameters
    ----------
    file
        The file. It is replaced as a whole, or not at all.
    overwrite
        Replace the file if it exists.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import backup

    return backup.backup(file, overwrite=overwrite, data=data)


@admin.command(name="restore")
def restore_backup(
    file: Path, /, *, exactly: Annotated[bool, Parameter(negative="")] = False, data: Path | None = None
) -> int:
    """Restore the lab from a backup, while no controller runs.

    Clients, hosts, exporters and policies are restored. Leases stay as they are now, and revoked tokens stay
    revoked, if the present data can be read; differences are printed. Pairing codes are not restored. The present
    data is kept in another folder beside it.

        jumpstarter-controller admin restore lab-monday.backup
        jumpstarter-controller admin restore lab-monday.backup --exactly

    Parameters
    ----------
    file
        A file of `admin backup`.
    exactly
        Restore leases and tokens as well; tokens that become valid again are listed.
    data
        The data folder of the controller; created if it does not exist.
    """
    from jumpstarter_controller.cli import backup

    return backup.bring_back(file, exactly=exactly, data=data)


@admin.command(name="export")
def export_lab(
    *,
    namespace: str = "",
    kubeconfig: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    data: Path | None = None,
) -> int:
    """Move the lab from its file to objects of a Kubernetes cluster, while no controller runs.

    Records, uids and keys are kept, so all tokens stay valid. The file is kept in another folder beside it. If the
    command is interrupted, the lab stays where it was; run it again to continue.

        jumpstarter-controller admin export --namespace lab
        jumpstarter-controller admin export --namespace lab --kubeconfig cluster.yaml

    Parameters
    ----------
    namespace
        Namespace in the cluster, which must be the namespace of the lab; default: that of the kubeconfig.
    kubeconfig
        The kubeconfig file for the cluster; default: as kubectl.
    overwrite
        Replace or delete existing objects of a lab in the namespace.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import backup

    return backup.export(namespace, kubeconfig, overwrite=overwrite, data=data)


@admin.command(name="import")
def import_lab(
    *,
    namespace: str = "",
    kubeconfig: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    data: Path | None = None,
) -> int:
    """Move the lab from a Kubernetes cluster to a file in its folder, while no controller runs.

    The reverse of `admin export`. The objects stay, and no lease begins there any more.

        jumpstarter-controller admin import
        jumpstarter-controller admin import --namespace lab --data /var/lib/jumpstarter-controller

    Parameters
    ----------
    namespace
        Namespace of the lab; default: the one that it was exported to from this folder.
    kubeconfig
        The kubeconfig file for the cluster; default: as kubectl.
    overwrite
        Replace the lab in the folder. It is kept beside the new one.
    data
        The data folder of the controller; created if it does not exist.
    """
    from jumpstarter_controller.cli import backup

    return backup.import_(namespace, kubeconfig, overwrite=overwrite, data=data)


@admin.command(name="journal")
def read_journal(
    *,
    board: str = "",
    client: str = "",
    lease: str = "",
    since: str = "1d",
    until: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=1, lte=100_000))] = 10_000,
    namespace: str = "",
    output: Annotated[Literal["table", "json", "yaml"], Parameter(["--output", "-o"])] = "table",
    data: Path | None = None,
) -> int:
    """Show who leased, extended and released boards, whose requests were rejected, and who used a board, by time.

    Exporters report the names of calls that change something, never their arguments. Above a limit, calls are counted.

        jumpstarter-controller admin journal --board rpi4-1 --since 2h
        jumpstarter-controller admin journal --client ann --since 7d --until 1d -o json

    Parameters
    ----------
    board
        Only entries of this exporter and its leases.
    client
        Only entries of this client.
    lease
        Only entries of this lease.
    since
        The begin: an age such as 2h or 7d, or a time such as 2026-11-28T18:00.
    until
        The end: an age or a time; default: now.
    limit
        The number of entries; if there are more, the newest are shown.
    namespace
        Only entries of this namespace.
    output
        The output format.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import journal

    wanted = journal.JournalOptions(board, client, lease, since, until, limit, namespace)
    return journal.show(wanted, output, data=data)


@host.command(name="list")
def list_hosts(
    *,
    namespace: str = "",
    output: Annotated[Format, Parameter(["--output", "-o"])] = "table",
    data: Path | None = None,
) -> int:
    """Show all hosts, their boards, and the labels that they may set.

    `jumpstarter exporters` shows the states of the boards.

        jumpstarter-controller admin host list -o json
    """
    from jumpstarter_controller.cli import objects

    return objects.listing(Kind.HOST, namespace, output, data=data)


@host.command(name="change")
def change_host(
    name: str,
    /,
    *,
    namespace: str = "default",
    label: list[str] | None = None,
    no_label: list[str] | None = None,
    may_label: list[str] | None = None,
    may_not_label: list[str] | None = None,
    data: Path | None = None,
) -> int:
    """Change the labels of a host's boards, and which labels it may set itself.

    Existing boards change immediately.

        jumpstarter-controller admin host change pi4 --label site=berlin --may-label team
        jumpstarter-controller admin host change pi4 --no-label site --may-not-label team

    Parameters
    ----------
    name
        The name of the host.
    namespace
        The namespace.
    label
        A label for each of its boards, KEY=VALUE; may be repeated.
    no_label
        The key of a label to remove.
    may_label
        The key of a label that the host may set itself.
    may_not_label
        A key that the host may no longer set. The label is removed from its boards.
    data
        The data folder of the controller.
    """
    from jumpstarter_controller.cli import hosts

    return hosts.change(
        name,
        namespace,
        labels=label or [],
        no_labels=no_label or [],
        may_label=may_label or [],
        may_not_label=may_not_label or [],
        data=data,
    )


@host.command(name="revoke")
def revoke_host(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
    """Revoke the tokens of a host and its boards, and end their open calls.

    The boards stay, offline.

        jumpstarter-controller admin host revoke pi4
    """
    from jumpstarter_controller.cli import hosts

    return hosts.revoke(name, namespace, data=data)


@host.command(name="delete")
def delete_host(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
    """Delete a host and the exporters of its boards.

    Their tokens become invalid, and their leases end.

        jumpstarter-controller admin host delete pi4
    """
    from jumpstarter_controller.cli import objects

    return objects.delete(Kind.HOST, name, namespace, data=data)


def _commands(group: App, kind: Kind) -> None:
    """The commands that clients and exporters share."""
    word = kind.lower()

    def listing(
        *,
        namespace: str = "",
        output: Annotated[Format, Parameter(["--output", "-o"])] = "table",
        data: Path | None = None,
    ) -> int:
        from jumpstarter_controller.cli import objects

        return objects.listing(kind, namespace, output, data=data)

    def rotate(name: str, /, *, namespace: str = "default", save: Path, data: Path | None = None) -> int:
        from jumpstarter_controller.cli import objects

        return objects.rotate(kind, name, namespace, save=save, data=data)

    def delete(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
        from jumpstarter_controller.cli import objects

        return objects.delete(kind, name, namespace, data=data)

    def enable(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
        from jumpstarter_controller.cli import objects

        return objects.set_enabled(kind, name, namespace, enabled=True, data=data)

    def disable(name: str, /, *, namespace: str = "default", data: Path | None = None) -> int:
        from jumpstarter_controller.cli import objects

        return objects.set_enabled(kind, name, namespace, enabled=False, data=data)

    example = "ann" if kind is Kind.CLIENT else "rpi4-1"
    a_word = f"an {word}" if kind is Kind.EXPORTER else f"a {word}"
    base = f"jumpstarter-controller admin {word}"
    for function, name, sentence, more in (
        (listing, "list", f"Show every {word}.", "-o json"),
        (
            rotate,
            "rotate",
            f"Write a new token of {a_word}; all older ones become invalid.",
            f"{example} --save {example}.yaml",
        ),
        (delete, "delete", f"Delete {a_word}; its tokens become invalid, its leases end.", example),
        (enable, "enable", f"Let {a_word} be used again.", example),
        (disable, "disable", f"Let {a_word} get no more leases.", example),
    ):
        group.command(function, name=name, help=f"{sentence}\n\n    {base} {name} {more}\n")


_commands(client, Kind.CLIENT)
_commands(exporter, Kind.EXPORTER)
