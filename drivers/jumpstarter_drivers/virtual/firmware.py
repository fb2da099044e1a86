"""What runs on the virtual board: boot loader, kernel and login, as a state machine without I/O or clock.

Facts go in with the time at which they happen (power, bytes on the console's wire, what the card holds);
what the board does comes out as events. Times are seconds of any clock that only goes forward.

    OFF --power_on--> LOADER --LoadImage/image_found--> KERNEL --> LOGIN <--> SHELL
                       |  ^ |                                         |
    (a key) PROMPT <---+  | +--image_missing--> STUCK         HALTED <+ (poweroff)
              |           |
              +-----------+ (boot, reset)

`power_off` leads from everywhere to OFF, and `reboot` from SHELL to LOADER.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from jumpstarter_drivers.virtual.image import BootImage
from jumpstarter_drivers.virtual.loader import PROMPT, VERSION, BootLoader, LoaderAction
from jumpstarter_drivers.virtual.login import LoginProgram
from jumpstarter_drivers.virtual.quirks import Quirks
from jumpstarter_drivers.virtual.shell import KERNEL, BoardShell, MachineFacts, ShellAction

__all__ = ["Event", "Firmware", "FirmwareState", "LoadImage", "Transmit"]


class FirmwareState(enum.Enum):
    """Where in its life the board is."""

    OFF = "off"
    LOADER = "boot loader"
    PROMPT = "boot loader's prompt"
    STUCK = "no bootable image"
    KERNEL = "kernel"
    LOGIN = "login prompt"
    SHELL = "shell"
    HALTED = "halted"


_NEXT: dict[FirmwareState, frozenset[FirmwareState]] = {
    FirmwareState.OFF: frozenset({FirmwareState.LOADER}),
    FirmwareState.LOADER: frozenset(
        {FirmwareState.OFF, FirmwareState.PROMPT, FirmwareState.STUCK, FirmwareState.KERNEL}
    ),
    FirmwareState.PROMPT: frozenset({FirmwareState.OFF, FirmwareState.LOADER}),
    FirmwareState.STUCK: frozenset({FirmwareState.OFF}),
    FirmwareState.KERNEL: frozenset({FirmwareState.OFF, FirmwareState.LOGIN}),
    FirmwareState.LOGIN: frozenset({FirmwareState.OFF, FirmwareState.SHELL}),
    FirmwareState.SHELL: frozenset(
        {FirmwareState.OFF, FirmwareState.LOGIN, FirmwareState.HALTED, FirmwareState.LOADER}
    ),
    FirmwareState.HALTED: frozenset({FirmwareState.OFF}),
}


@dataclass(frozen=True)
class Transmit:
    """Bytes leave the board's serial port now; never empty. Fires in no state but a powered one."""

    data: bytes


@dataclass(frozen=True)
class LoadImage:
    """The boot loader reads the card now: answer with `image_found` or `image_missing`, once.

    An answer that comes after the power went is ignored.
    """


Event = Transmit | LoadImage


@dataclass(frozen=True)
class _Step:
    """One thing of the boot script: a line to print, or a state to enter, when its time has come."""

    at: float
    line: str = ""
    enter: FirmwareState | None = None
    boot: bool = False
    end: str = "\n"


_LOADER = """
U-Boot SPL 2024.01-virtual
Trying to boot from MMC1

{version}

Model: {model}
DRAM:  1 GiB
MMC:   mmc@0: 0
In:    serial@0
Out:   serial@0
""".splitlines()

_KERNEL = f"""
Booting Linux on physical CPU 0x0000000000 [0x410fd083]
Linux version {KERNEL} (virtual) #1 SMP PREEMPT
Machine model: {{model}}
Kernel command line: console=ttyS0,115200 root=/dev/mmcblk0p2 rootwait
Memory: 1015808K/1048576K available
smp: Brought up 1 node, 1 CPU
ttyS0 at MMIO 0x0 (irq = 0, base_baud = 115200) is a 16550
mmc0: new high speed SDHC card at address aaaa
mmcblk0: mmc0:aaaa VIRT {{size}} bytes
EXT4-fs (mmcblk0p2): mounted filesystem with ordered data mode
Run /sbin/init as init process
""".strip().splitlines()

MAX_BOOT_DELAY_SECONDS = 9
_LOADER_SHARE = 0.4
"""Part of the boot time that the boot loader takes."""


class Firmware:
    """One board. Not safe for use from two threads.

    Guarantees: after `power_off` no event comes out until the next `power_on`; every `power_on` from OFF
    gives exactly one LoadImage sooner or later, if time advances, the power stays and no key stops the boot
    loader; no input raises.
    """

    def __init__(
        self,
        *,
        hostname: str = "virtual",
        model: str = "Jumpstarter Virtual Board",
        boot_seconds: float = 1.5,
        root_password: str = "",
        change_password: bool = False,
        loader_prompt: str = PROMPT,
        boot_delay: int = 0,
        quirks: Quirks | None = None,
    ):
        if boot_seconds < 0:
            raise ValueError(f"boot_seconds is {boot_seconds}; a boot takes 0 seconds or more")
        if not -1 <= boot_delay <= MAX_BOOT_DELAY_SECONDS:
            raise ValueError(
                f"boot_delay is {boot_delay}; it takes 0 to {MAX_BOOT_DELAY_SECONDS} seconds, or -1"
            )
        self._hostname = hostname
        self._model = model
        self._boot_seconds = boot_seconds
        self._login = LoginProgram(hostname, password=root_password, must_change=change_password)
        self._loader_prompt = loader_prompt
        self._quirks = quirks or Quirks()
        self.state = FirmwareState.OFF
        self._script: deque[_Step] = deque()
        self._events: list[Event] = []
        self._loading = False
        self._loader = BootLoader(boot_delay)
        self._key = False
        self._kernel_started = 0.0
        self._machine: MachineFacts | None = None
        self._shell: BoardShell | None = None
        self._line = bytearray()
        self._escape = False

    @property
    def deadline(self) -> float | None:
        """When `advance` has something to do next; None while only input can change anything."""
        return self._script[0].at if self._script else None

    # Facts in, events out.

    def power_on(self, now: float) -> list[Event]:
        """The power comes; nothing happens when it is there already."""
        if self.state is FirmwareState.OFF:
            self._start_loader(now)
        return self._due(now)

    def power_off(self) -> list[Event]:
        """The power goes; what was not printed yet is never printed."""
        if self.state is not FirmwareState.OFF:
            self._enter(FirmwareState.OFF)
        self._script.clear()
        self._loading = False
        self._machine = None
        self._shell = None
        self._line.clear()
        return []

    def advance(self, now: float) -> list[Event]:
        """Time has passed."""
        return self._due(now)

    def image_found(self, image: BootImage, now: float) -> list[Event]:
        """Answer to LoadImage: the card holds this image, which boots."""
        if not self._loading:
            return self._due(now)
        self._loading = False
        self._print(
            self._quirks.progress
            + f"Loading image {image.name} {image.version} ({image.size} bytes, sha256 {image.digest[:12]})\n"
            "Starting kernel ...\n\n"
        )
        self._enter(FirmwareState.KERNEL)
        self._kernel_started = now
        self._machine = MachineFacts(self._hostname, self._model, image)
        seconds = self._boot_seconds * (1 - _LOADER_SHARE)
        lines = [line.format(model=self._model, size=image.size) for line in _KERNEL]
        for number, line in enumerate(lines):
            at = seconds * number / len(lines)
            self._script.append(_Step(now + at, f"[{at:12.6f}] {line}"))
        self._script.append(_Step(now + seconds, enter=FirmwareState.LOGIN))
        return self._due(now)

    def image_missing(self, reason: str, now: float) -> list[Event]:
        """Answer to LoadImage: nothing boots from the card."""
        if not self._loading:
            return self._due(now)
        self._loading = False
        self._print(
            f"** No bootable image on mmc 0: {reason} **\n"
            "Boot failed: flash an image, then power-cycle the board.\n"
        )
        self._enter(FirmwareState.STUCK)
        return self._due(now)

    def card_removed(self, now: float) -> list[Event]:
        """The card left the slot; a running system loses its root file system."""
        if self._machine is not None and not self._machine.root_lost:
            self._machine.root_lost = True
            self._kernel_message("mmc0: card aaaa removed", now)
        return self._due(now)

    def card_inserted(self, now: float) -> list[Event]:
        """The card is back; a system that lost its root stays without it until the next boot."""
        if self._machine is not None:
            self._kernel_message("mmc0: new high speed SDHC card at address aaaa", now)
        return self._due(now)

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes arrive at the serial port; any of them stops a boot loader, only prompts read them."""
        for byte in data:
            if self.state in (FirmwareState.PROMPT, FirmwareState.LOGIN, FirmwareState.SHELL):
                self._typed(byte, now)
            elif self.state is FirmwareState.LOADER:
                self._key = True
                if self._script and all(step.boot or step.line.startswith("\b") for step in self._script):
                    self._script = deque([_Step(now, boot=True)])  # the countdown is over
        return self._due(now)

    # The boot script.

    def _start_loader(self, now: float) -> None:
        self._enter(FirmwareState.LOADER)
        self._loader.start()
        self._key = False
        seconds = self._boot_seconds * _LOADER_SHARE
        lines = [line.format(model=self._model, version=VERSION) for line in _LOADER]
        for number, line in enumerate(lines):
            self._script.append(_Step(now + seconds * number / (len(lines) + 1), line))
        delay = max(self._loader.boot_delay, 0)
        count = now + seconds * len(lines) / (len(lines) + 1)
        self._script.append(_Step(count, f"Hit any key to stop autoboot:  {delay} ", end=""))
        for left in range(delay - 1, -1, -1):
            count += 1
            self._script.append(_Step(count, f"\b\b\b {left} ", end=""))
        self._script.append(_Step(max(count, now + seconds), boot=True))

    def _boot(self) -> None:
        """The countdown has ended, or was stopped."""
        self._print("\n")
        if self._key or self._loader.boot_delay < 0:
            self._enter(FirmwareState.PROMPT)
            self._prompt()
        else:
            self._load()

    def _load(self) -> None:
        self._loading = True
        self._events.append(LoadImage())

    def _due(self, now: float) -> list[Event]:
        while self._script and self._script[0].at <= now:
            step = self._script.popleft()
            if step.boot:
                self._boot()
            elif step.enter is not None:
                self._enter(step.enter)
                self._prompt()
            else:
                if self._machine is not None:
                    self._machine.log.append(step.line)
                self._print(step.line + step.end)
        events, self._events = self._events, []
        return events

    def _enter(self, state: FirmwareState) -> None:
        if state not in _NEXT[self.state]:
            raise AssertionError(f"the board cannot go from {self.state} to {state}")
        self.state = state

    # The console.

    def _print(self, text: str) -> None:
        self._echo(text.replace("\n", "\r\n").encode("utf-8", "replace"))

    def _kernel_message(self, text: str, now: float) -> None:
        line = f"[{now - self._kernel_started:12.6f}] {text}"
        if self._machine is not None:
            self._machine.log.append(line)
        self._print(
            f"\n{line}\n" if self.state in (FirmwareState.LOGIN, FirmwareState.SHELL) else f"{line}\n"
        )

    def _prompt(self) -> None:
        self._line.clear()
        if self.state is FirmwareState.LOGIN and self._machine is not None:
            image = self._machine.image
            self._print(f"\nWelcome to {image.name} {image.version}\n\n")
            self._print_prompt(self._login.begin())
        elif self.state is FirmwareState.SHELL:
            self._print_prompt("# ")
        elif self.state is FirmwareState.PROMPT:
            self._print(self._loader_prompt)

    def _print_prompt(self, text: str) -> None:
        said, end, prompt = text.rpartition("\n")
        self._print(said + end + (self._quirks.prompt(prompt, self._hostname) if prompt else ""))

    def _typed(self, byte: int, now: float) -> None:
        if self._escape:
            # The tail of a cursor key or the like: ESC [ ... up to a letter or ~.
            self._escape = not (chr(byte).isalpha() or byte == ord("~"))
        elif byte == 0x1B:
            self._escape = True
        elif byte in b"\r\n":
            self._print("\n")
            line = self._line.decode("utf-8", "replace")
            self._line.clear()
            self._entered(line, now)
        elif byte in b"\x7f\x08":
            if self._line:
                self._line.pop()
                self._echo(b"" if self._is_secret else b"\b \b")
        elif byte == 0x03:
            self._print("<INTERRUPT>\n" if self.state is FirmwareState.PROMPT else "^C\n")
            self._prompt()
        elif byte == 0x15:
            self._echo(b"" if self._is_secret else b"\b \b" * len(self._line))
            self._line.clear()
        elif byte == 0x04:
            if not self._line and self.state is FirmwareState.SHELL:
                self._log_out()
        elif byte >= 0x20:
            if len(self._line) >= self._quirks.line_limit:
                self._echo(b"\a")
            else:
                self._line.append(byte)
                if not self._is_secret:
                    self._echo(bytes([byte]))

    @property
    def _is_secret(self) -> bool:
        return self.state is FirmwareState.LOGIN and self._login.is_secret

    def _echo(self, data: bytes) -> None:
        if data:
            last = self._events[-1] if self._events else None
            if isinstance(last, Transmit):
                self._events[-1] = Transmit(last.data + data)
            else:
                self._events.append(Transmit(data))

    def _entered(self, line: str, now: float) -> None:
        if self.state is FirmwareState.PROMPT:
            self._entered_in_loader(line, now)
            return
        machine = self._machine
        if machine is None:
            return
        if self.state is FirmwareState.LOGIN:
            said, is_logged_in = self._login.entered(line)
            self._print_prompt(said)
            if is_logged_in:
                self._shell = BoardShell(machine)
                self._enter(FirmwareState.SHELL)
                self._print(self._quirks.greeting)
                self._prompt()
            return
        if self._shell is None:
            return
        output, action = self._shell.run(line, now - self._kernel_started)
        self._print(output)
        if action is ShellAction.LOG_OUT:
            self._log_out()
        elif action is ShellAction.POWER_OFF:
            self._print("The system is going down NOW!\n")
            self._kernel_message("reboot: Power down", now)
            self._enter(FirmwareState.HALTED)
        elif action is ShellAction.REBOOT:
            self._print("The system is going down NOW!\n")
            self._kernel_message("reboot: Restarting system", now)
            self._machine = None
            self._shell = None
            self._start_loader(now)
        else:
            self._prompt()

    def _entered_in_loader(self, line: str, now: float) -> None:
        output, action = self._loader.run(line)
        self._print(output)
        if action is LoaderAction.BOOT:
            self._enter(FirmwareState.LOADER)
            self._load()
        elif action is LoaderAction.RESET:
            self._start_loader(now)
        else:
            self._prompt()

    def _log_out(self) -> None:
        self._shell = None
        self._enter(FirmwareState.LOGIN)
        self._print("\n")
        self._prompt()
