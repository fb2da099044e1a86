"""Servers from which boards load files: HTTP and TFTP."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="files",
    summary="serve files to a board by HTTP and TFTP",
    types=("driver.Http", "driver.Tftp"),
    clients=(
        "client.FileServerClient",
        "client.HttpServerClient",
        "client.OpendalClient",
        "client.TftpServerClient",
    ),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_http.driver.HttpServer": "driver.Http",
        "jumpstarter_driver_tftp.driver.Tftp": "driver.Tftp",
    },
    client_aliases={
        "jumpstarter_driver_http.client.HttpServerClient": "client.HttpServerClient",
        "jumpstarter_driver_tftp.client.TftpServerClient": "client.TftpServerClient",
        "jumpstarter_driver_opendal.client.OpendalClient": "client.OpendalClient",
    },
)
