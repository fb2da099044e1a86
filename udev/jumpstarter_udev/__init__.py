"""udev rules, and the hwdb with the USB devices that the exporter knows. Two files and no code.

`jumpstarter_exporter.devices.hwdb` reads the hwdb for hosts where udev does not have it.
"""
