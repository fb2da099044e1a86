"""Recipes of the Debian packages and of the image of an operating system, and their boot tests."""
