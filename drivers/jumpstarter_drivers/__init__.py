"""One folder a driver; each folder's `__init__.py` is its manifest, and nothing lists the folders elsewhere."""
