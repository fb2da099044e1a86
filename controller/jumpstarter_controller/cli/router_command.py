"""The options of `jumpstarter-router`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App
from jumpstarter_proto.installed import installed_version

from jumpstarter_controller.cli.command import ROUTER, ROUTER_PORT, Level, LogFormat

__all__ = ["app"]

app = App(
    name=ROUTER,
    help_format="plaintext",
    version=installed_version,
    version_flags=["--version"],
    result_action="return_value",
)


@app.default
def run(
    *,
    key: Path,
    listen: str = f":{ROUTER_PORT}",
    endpoint: str | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    metrics_listen: str | None = None,
    log_level: Level = "info",
    log_format: LogFormat = "text",
) -> dict[str, Any]:
    """Carry the streams between clients and exporters, for a controller elsewhere.

    One file says which lab it belongs to. On the controller's host, make it, and
    tell the controller of the router:

        jumpstarter-controller admin router create lab-2:8083 --save lab-2.pem
        jumpstarter-controller run --router lab-2:8083

    Copy the file to where the router is to run, and run it:

        jumpstarter-router --key lab-2.pem

    Parameters
    ----------
    key
        The router's file, or the controller's `router.key`.
    listen
        [HOST]:PORT for clients and exporters; the port of the router's address may be another, behind a proxy.
    endpoint
        HOST:PORT for clients and exporters, if it is neither the listen address nor the name in the file.
    tls_cert
        Certificate chain in PEM; default: the one in the router's file.
    tls_key
        The key of the certificate, in PEM.
    metrics_listen
        [HOST]:PORT for Prometheus and for probes: /metrics, /healthz and /readyz, over plain HTTP.
    log_level
        The lowest level of log lines on stderr.
    log_format
        Text lines, or one JSON object for each line: time, level, message and the objects concerned.
    """
    return {
        "key": key,
        "listen": listen,
        "endpoint": endpoint,
        "certificate": tls_cert,
        "certificate_key": tls_key,
        "metrics_listen": metrics_listen,
        "log_level": log_level,
        "log_format": log_format,
    }
