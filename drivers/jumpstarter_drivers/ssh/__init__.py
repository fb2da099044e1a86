"""Commands and shells on a board by SSH, with the ssh of the user's machine."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="ssh",
    summary="run commands and shells on a board by SSH",
    types=("driver.SSHWrapper",),
    clients=("client.SSHWrapperClient",),
    steps="steps",
    type_aliases={"jumpstarter_driver_ssh.driver.SSHWrapper": "driver.SSHWrapper"},
    client_aliases={"jumpstarter_driver_ssh.client.SSHWrapperClient": "client.SSHWrapperClient"},
)
