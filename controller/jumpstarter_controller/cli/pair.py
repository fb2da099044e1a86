"""`jumpstarter-controller admin pair`: a code with which another machine gets its own token."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from jumpstarter_proto.remote import Kind

__all__ = ["pair"]

Format = Literal["text", "json"]

pair = App(
    name="pair",
    help="""A pairing code: another machine gets its own token with it, once, and no file is carried about.

Each says what to type on the other machine:

    jumpstarter-controller admin pair host pi4       all of its boards
    jumpstarter-controller admin pair exporter rpi4-1 --label board=rpi4
    jumpstarter-controller admin pair client ann
    jumpstarter-controller admin pair client ann --renew
    jumpstarter-controller admin pair client ann -o json | jq -r .code
""",
)


def _command(kind: Kind) -> None:
    word = kind.lower()

    def make(
        name: str,
        /,
        *,
        namespace: str = "default",
        label: list[str] | None = None,
        valid: str = "10m",
        renew: Annotated[bool, Parameter(negative="")] = False,
        output: Annotated[Format, Parameter(["--output", "-o"])] = "text",
        data: Path | None = None,
    ) -> int:
        from jumpstarter_controller.cli import objects

        return objects.pair(
            kind, name, namespace, label or [], valid=valid, renew=renew, output=output, data=data
        )

    make.__doc__ = f"""Make a code for a new {word}, or with --renew for one that exists, and say how it is used.

        jumpstarter-controller admin pair {word} {"ann" if kind is Kind.CLIENT else "rpi4-1 --label board=rpi4"}

    Parameters
    ----------
    name
        What the {word} is called.
    namespace
        The namespace of the host.
    label
        KEY=VALUE; may be repeated.
    valid
        How long the code is valid, such as 10m; at most 24h.
    renew
        The {word} exists and gets a new token; its old ones count no more from then on.
    output
        json for scripts.
    data
        The folder of the controller's state.
    """
    pair.command(make, name=word)


@pair.command(name="host")
def pair_host(
    name: str,
    /,
    *,
    namespace: str = "default",
    label: list[str] | None = None,
    may_label: list[str] | None = None,
    may_not_label: list[str] | None = None,
    valid: str = "10m",
    renew: Annotated[bool, Parameter(negative="")] = False,
    output: Annotated[Format, Parameter(["--output", "-o"])] = "text",
    data: Path | None = None,
) -> int:
    """Create a pairing code for a host, which registers its boards itself, as exporters NAME and NAME-SOMETHING.

    Leases and policies select boards by label, so a host may set only labels that were granted to it. `host` and
    `board` are granted by default, so that `jumpstarter shell -l host=pi4` works.

        jumpstarter-controller admin pair host pi4 --label site=berlin
        jumpstarter-controller admin pair host pi4 --may-label team
        jumpstarter-controller admin pair host pi4 --renew

    Parameters
    ----------
    name
        The name of the host, and the prefix of the names of its boards.
    namespace
        Where it is called that.
    label
        KEY=VALUE of each of its boards; may be repeated.
    may_label
        A label key that the host may set on its boards; may be repeated.
    may_not_label
        `host` or `board`, if the host may not set that label.
    valid
        How long the code is good, such as 10m; at most 24h.
    renew
        The host exists and gets a new token; its old tokens and those of its boards become invalid.
    output
        json for scripts.
    data
        The folder of the controller's state.
    """
    from jumpstarter_controller.cli import hosts

    return hosts.pair(
        name,
        namespace,
        label or [],
        may_label=may_label or [],
        may_not_label=may_not_label or [],
        valid=valid,
        renew=renew,
        output=output,
        data=data,
    )


_command(Kind.EXPORTER)
_command(Kind.CLIENT)
