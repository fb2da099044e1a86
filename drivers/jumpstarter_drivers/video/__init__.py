"""Pictures of a board: cameras and capture sticks of the host, and cameras behind HTTP."""

from jumpstarter_proto.driver_packages import Manifest

__all__ = ["MANIFEST"]

MANIFEST = Manifest(
    package=__name__,
    interface="video",
    summary="see, save and record pictures of a board",
    types=(
        "driver.HttpVideo",
        "driver.UStreamer",
    ),
    clients=(
        "client.VideoClient",
        "client.UStreamerClient",
    ),
    steps="steps",
    type_aliases={
        "jumpstarter_driver_ustreamer.driver.UStreamer": "driver.UStreamer",
        "jumpstarter_driver_video.driver.HttpVideo": "driver.HttpVideo",
    },
    client_aliases={
        "jumpstarter_driver_video.client.VideoClient": "client.VideoClient",
        "jumpstarter_driver_ustreamer.client.UStreamerClient": "client.UStreamerClient",
    },
)
