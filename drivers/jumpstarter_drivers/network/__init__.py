"""Connections to services that only the exporter's host can reach."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="network",
    summary="reach services that only the board's host can reach",
    types=(
        "driver.EchoNetwork",
        "driver.TcpNetwork",
        "driver.UdpNetwork",
        "driver.UnixNetwork",
    ),
    clients=("client.NetworkClient",),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_network.driver.TcpNetwork": "driver.TcpNetwork",
        "jumpstarter_driver_network.driver.UdpNetwork": "driver.UdpNetwork",
        "jumpstarter_driver_network.driver.UnixNetwork": "driver.UnixNetwork",
        "jumpstarter_driver_network.driver.EchoNetwork": "driver.EchoNetwork",
    },
    client_aliases={
        "jumpstarter_driver_network.client.NetworkClient": "client.NetworkClient",
    },
)
