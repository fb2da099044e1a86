"""What odd boards do on their consoles, for the virtual board to do it too."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QUIRKS", "Quirks"]

QUIRKS = {
    "escapes": "prompts with colours, `erase to the end of the line` and systemd's OSC 3008",
    "profile-errors": "/etc/profile prints `Permission denied` before the first prompt",
    "short-lines": "lines of 512 bytes at most, as busybox may be built",
    "carriage-returns": "progress whose lines end in CR only",
}
_SYSTEMD = "\x1b]3008;start=4bf3;user=root;hostname={hostname};type=shell\x1b\\"


@dataclass(frozen=True)
class Quirks:
    """Which ones a board has."""

    names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in QUIRKS:
                raise ValueError(f"there is no quirk {name!r}; there are {', '.join(QUIRKS)}")

    def prompt(self, text: str, hostname: str) -> str:
        """A prompt as the board prints it."""
        if "escapes" not in self.names:
            return text
        return f"\x1b[0m\x1b[K{text}\x1b[0m\x1b[K" + _SYSTEMD.format(hostname=hostname)

    @property
    def greeting(self) -> str:
        """What comes between a login and the first prompt."""
        return "-sh: /etc/profile.d/lab.sh: Permission denied\n" if "profile-errors" in self.names else ""

    @property
    def line_limit(self) -> int:
        """Bytes of one typed line; what comes after it rings the bell."""
        return 512 if "short-lines" in self.names else 1024

    @property
    def progress(self) -> str:
        """What loading an image prints."""
        if "carriage-returns" not in self.names:
            return ""
        return "".join(f"loading {percent:3d}%\r" for percent in range(0, 101, 10))
