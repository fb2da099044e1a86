"""What users install: the wheel, the sdist, and the extras."""
