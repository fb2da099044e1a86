"""What a camera's state is, as the host sends it and the user reads it."""

from __future__ import annotations

import msgspec

__all__ = ["UStreamerResult", "VideoState"]


class Resolution(msgspec.Struct, frozen=True):
    """Size in pixels."""

    width: int = 0
    height: int = 0


class UStreamerSource(msgspec.Struct, frozen=True):
    """The camera, in Jumpstarter 0.9's words."""

    online: bool = False
    desired_fps: int = 0
    captured_fps: int = 0
    resolution: Resolution = Resolution()


class UStreamerEncoder(msgspec.Struct, frozen=True):
    """What makes JPEG of it."""

    type: str = "HW"
    quality: int = 0


class UStreamerResult(msgspec.Struct, frozen=True):
    """All that Jumpstarter 0.9's client for ustreamer expects."""

    encoder: UStreamerEncoder = UStreamerEncoder()
    source: UStreamerSource = UStreamerSource()


class VideoState(msgspec.Struct, frozen=True):
    """A camera's state."""

    online: bool = False
    """Whether it brings pictures."""
    width: int | None = None
    """Pixels."""
    height: int | None = None
    fps: float | None = None
    """Pictures per second; None where that is not known."""
    reason: str = ""
    """Why it brings none, and what to do."""
    viewers: int = 0
    """How many look at it now."""
    source: str = ""
    """Where the pictures come from."""
    ok: bool = True
    result: UStreamerResult | None = None
    """The state in the format of Jumpstarter 0.9."""

    def __str__(self) -> str:
        """Lines for people."""
        lines = [f"online: {'yes' if self.online else 'no'}"]
        if self.reason:
            lines.append(f"reason: {self.reason}")
        if self.width and self.height:
            lines.append(f"resolution: {self.width}x{self.height}")
        if self.fps:
            lines.append(f"fps: {self.fps:.1f}")
        if self.viewers:
            lines.append(f"viewers: {self.viewers}")
        if self.source:
            lines.append(f"source: {self.source}")
        return "\n".join(lines)

    def completed(self) -> VideoState:
        """With what only the words of Jumpstarter 0.9 say, where an exporter of it has sent no others."""
        if self.result is None or self.online or self.source:
            return self
        peer = self.result.source
        size = peer.resolution
        return msgspec.structs.replace(
            self,
            online=peer.online,
            width=size.width or None,
            height=size.height or None,
            fps=peer.captured_fps or None,
        )
