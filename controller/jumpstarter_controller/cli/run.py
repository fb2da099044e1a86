"""`jumpstarter-controller run`: from the command line's words to the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import trio
from jumpstarter_proto.durations import parse_duration

from jumpstarter_controller import app as process
from jumpstarter_controller.audit import AuditLimits
from jumpstarter_controller.cli.command import Level, LogFormat
from jumpstarter_controller.configuration import Configuration, load
from jumpstarter_controller.process import server_log
from jumpstarter_controller.process.data_folder import DataError, KubernetesLab, default_folder
from jumpstarter_controller.services.routers import Router

__all__ = ["run_controller"]


def run_controller(
    *,
    data: Path | None,
    store: str,
    namespace: str,
    kubeconfig: Path | None,
    tokens: Literal["own", "serviceaccounts"],
    jumpstarter_key: Path | None,
    listen: str,
    endpoint: str | None,
    with_router: bool,
    router_listen: str,
    router_endpoint: str | None,
    replica_listen: str,
    replica_endpoint: str | None,
    router: list[str] | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    max_leases: int,
    keep_ended: str,
    keep_journal: str,
    max_journal_mib: int,
    metrics_listen: str | None,
    config: Path | None,
    log_level: Level,
    log_format: LogFormat,
) -> int:
    """Run it, and give its exit code. Raises JumpstarterError for what a user can put right."""
    server_log.configure(log_level, log_format)
    lab = None
    if store == "kubernetes":
        lab = KubernetesLab(namespace, "" if kubeconfig is None else str(kubeconfig.absolute()), tokens)
    elif namespace or kubeconfig or tokens != "own" or replica_listen != ":0" or replica_endpoint is not None:
        raise DataError(
            "--namespace, --kubeconfig, --tokens, --replica-listen and --replica-endpoint are for a lab in Kubernetes; "
            "add --store kubernetes"
        )
    settings = process.ControllerSettings(
        data=data or default_folder(),
        kubernetes=lab,
        jumpstarter_key=jumpstarter_key,
        listen=listen,
        endpoint=endpoint,
        with_router=with_router,
        router_listen=router_listen,
        router_endpoint=router_endpoint,
        replica_listen=replica_listen,
        replica_endpoint=replica_endpoint,
        routers=tuple(map(Router.parse, router or [])),
        certificate=tls_cert,
        key=tls_key,
        max_leases=max_leases,
        metrics_listen=metrics_listen,
        keep_ended=parse_duration(keep_ended),
        journal=AuditLimits(parse_duration(keep_journal), max_journal_mib),
        configuration=Configuration() if config is None else load(config),
        configuration_file=config,
    )
    return trio.run(process.run, settings)
