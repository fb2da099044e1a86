"""`python -m jumpstarter_image`."""

from jumpstarter_image.cli import main

main()
