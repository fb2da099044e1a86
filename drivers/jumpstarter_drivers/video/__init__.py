"""Pictures of a board: cameras and capture sticks of the host, and cameras behind HTTP."""

INTERFACE = "video"
DRIVERS = {
    "jumpstarter_driver_ustreamer.driver.UStreamer": "UStreamer",
    "jumpstarter_driver_video.driver.HttpVideo": "HttpVideo",
}
CLIENTS = {
    "jumpstarter_driver_video.client.VideoClient": "VideoClient",
    "jumpstarter_driver_ustreamer.client.UStreamerClient": "UStreamerClient",
}
