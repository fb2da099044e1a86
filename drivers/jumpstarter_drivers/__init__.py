"""One folder a driver; each folder's `__init__.py` is its manifest, and nothing lists the folders elsewhere.

Folders of any `jumpstarter_drivers` directory on Python's path count, so a lab may keep its own beside these.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
