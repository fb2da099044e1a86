"""Connections to services that only the exporter's host can reach."""

INTERFACE = "network"
DRIVERS = {
    "jumpstarter_driver_network.driver.TcpNetwork": "TcpNetwork",
    "jumpstarter_driver_network.driver.UdpNetwork": "UdpNetwork",
    "jumpstarter_driver_network.driver.UnixNetwork": "UnixNetwork",
    "jumpstarter_driver_network.driver.EchoNetwork": "EchoNetwork",
}
CLIENTS = {"jumpstarter_driver_network.client.NetworkClient": "NetworkClient"}
