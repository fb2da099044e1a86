"""`jumpstarter-exporter doctor`: problems of this host, and what to do about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import trio
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.page_width import print_page
from jumpstarter_proto.terminal import print_text
from jumpstarter_proto.texts import shown

from jumpstarter_exporter.host_health import (
    AREAS,
    HealthFinding,
    HostFacts,
    HostLook,
    Severity,
    area_of,
    judge,
    measure,
)

__all__ = ["examine_host"]

MAX_TEXT = 1000


def examine_host(*, output: str, is_quiet: bool = False, look: HostLook | None = None) -> int:
    """Print the findings; if `is_quiet`, only those that need an action.

    Returns `ExitCode.FAILED` if one is an error. Facts that could not be read are not errors.
    """

    async def read() -> HostFacts:
        return await (look or HostLook()).host()

    facts = trio.run(read)
    findings = judge(facts)
    if output == "text":
        print_page("".join(f"{line}\n" for line in _lines(findings, is_quiet=is_quiet)))
    else:
        _print_data({"findings": [_described(one) for one in findings], "measures": measure(facts)}, output)
    return ExitCode.FAILED if any(one.severity is Severity.ERROR for one in findings) else ExitCode.OK


def _lines(findings: Sequence[HealthFinding], *, is_quiet: bool) -> Iterator[str]:
    told = [one for one in findings if one.is_problem or not is_quiet]
    for area, group in groupby(told, key=lambda one: area_of(one.key)):
        yield AREAS[area]
        for one in group:
            cure = f"; {one.cure}" if one.cure else ""
            yield f"  {one.severity:<8} {shown(one.sentence + cure, MAX_TEXT)}"
    errors, warnings, unknown = (
        sum(one.severity is severity for one in findings)
        for severity in (Severity.ERROR, Severity.WARNING, Severity.UNKNOWN)
    )
    said = [_number(errors, "error"), _number(warnings, "warning")]
    if unknown:
        said.append(f"{unknown} could not be found out")
    yield ", ".join(said)


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _described(one: HealthFinding) -> dict[str, Any]:
    return {
        "key": one.key,
        "severity": one.severity.value,
        "subject": one.subject,
        "sentence": one.sentence,
        "cure": one.cure,
    }


def _print_data(data: dict[str, Any], output: str) -> None:
    if output == "json":
        print_text(json.dumps(data, indent=2) + "\n")
        return
    import yaml  # noqa: PLC0415 - only needed for YAML output

    print_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=False))
