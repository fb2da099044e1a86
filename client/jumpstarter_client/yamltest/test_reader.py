from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jumpstarter_proto.durations import TimeFormatError, parse_duration
from jumpstarter_proto.errors import ExitCode
from jumpstarter_proto.yaml_files import ConfigError, SeveralMistakesError

from jumpstarter_client.yamltest.model import BoardTest, Group, StepCall, calls
from jumpstarter_client.yamltest.reader import locate, read
from jumpstarter_client.yamltest.variables import substitute


def made(folder: Path, text: str, given: dict[str, Any] | None = None) -> BoardTest:
    file = folder / "a.yaml"
    file.write_text(text)
    return read(file, given)


def test_a_test_with_everything(tmp_path: Path) -> None:
    (tmp_path / "hello.img").touch()
    found = made(
        tmp_path,
        """
name: boot ${image}
board: rpi4
timeout: 5m
requires: {interfaces: [power], labels: {soc: bcm2712}}
variables:
  image: other.img
  user: root
steps:
  - storage.flash: ${image}
    timeout: 90
  - power.on
  - name: reach the prompt
    retries: 2
    delay: 500ms
    group:
      - serial.expect: "login: "
        timeout: 30s
      - serial.send: ${user}
  - serial.expect: {regex: 'Linux (\\S+)'}
    capture: kernel
  - log: the kernel is ${kernel}
always:
  - power.off:
""",
        {"image": "hello.img"},
    )
    assert (found.name, found.board, found.seconds) == ("boot hello.img", "rpi4", 300.0)
    assert found.requires.interfaces == ("power",)
    flash, on, again, run, log = found.steps
    assert isinstance(flash, StepCall)
    assert (flash.step.name, flash.given, flash.seconds) == ("storage.flash", "${image}", 90.0)
    assert isinstance(on, StepCall)
    assert on.given is None
    assert isinstance(again, Group)
    assert (again.title, again.retries, again.delay, len(again.steps)) == ("reach the prompt", 2, 0.5, 2)
    assert isinstance(run, StepCall)
    assert run.capture == "kernel"
    assert [one.title for one in found.always] == ["power.off"]
    assert log.title == "log the kernel is ${kernel}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "steps: [power.onn]",
            "a.yaml:1:9: steps[0].power.onn: unknown step 'power.onn'; did you mean 'power.on'?",
        ),
        (
            "steps:\n  - serial.send: {txt: a}",
            ":2:19: steps[0].serial.send.txt: serial.send has no key 'txt'",
        ),
        (
            "steps:\n  - power.cycle: [1]",
            ":2:5: steps[0].power.cycle: this is a list; it takes a number or text",
        ),
        ("steps: [{storage.flash: }]", "storage.flash needs 'image'; add it"),
        ("steps: [{storage.flash: nothing.img}]", "not found; check the path"),
        ("steps: [{power.on: 5}]", "power.on takes no value; remove 5"),
        ("steps: [{power.on: , power.off: }]", "a step has one action"),
        ("steps: [{timeout: 5}]", "this step has no action"),
        ("steps: [{power.on: , timeout: soon}]", "'soon' is not a duration"),
        ("steps: [{power.on: , retries: -1}]", "retries is -1"),
        ("steps: [{power.on: , retries: 1001}]", "retries is 1001; it takes 0 to 1000"),
        ("steps: [{log: a, device: rpi4}]", "log needs no device"),
        ("steps: [{log: '${x}'}]", "the variable 'x' is not set; none is set"),
        (
            "variables: {a: 1}\nsteps: [{log: '${b}'}, {log: c, capture: b}]",
            "the variable 'b' is not set; there are a",
        ),
        (
            "variables: {l: [1]}\nsteps:\n  - log: '${l.5}'\n  - log: '${y}'",
            "a.yaml:3:5: steps[0].log: the variable 'l' has no part '5'; there are 0 (the first of 2 mistakes",
        ),
        (
            "steps: [{log: '${x'}]",
            "${x is not a reference to a variable; write ${name}, or $${ for ${ itself",
        ),
        ("steps: [{log: {text: ['${my name}']}}]", "${my name} is not a reference to a variable"),
        ("variables: {a: '${}'}\nsteps: [power.on]", "variables.a: ${} is not a reference"),
        ("steps: [{power.on: , timeout: '${x'}]", "steps[0].timeout: ${x is not a reference"),
        (
            "steps:\n  - storage.flash: {image: a.img, device: rpi4}",
            "storage.flash has no key 'device'; write it beside storage.flash, with the same indentation",
        ),
        ("variables: {n: 5}\nsteps: [{log: '${n.x}'}]", "the variable 'n' has no part 'x': 5 has no parts"),
        ("variables: {l: []}\nsteps: [{log: '${l.0}'}]", "has no part '0'; it is empty"),
        ("steps: [{compare: {value: 1, matches: }}]", "nothing to compare with"),
        ("variables: {p: null}\nsteps: [{compare: {value: 1, above: '${p}'}}]", "nothing to compare with"),
        ("steps: [{set: {1: a, b: c}}, {log: '${x}'}]", "steps[0].set[1]: as a key, YAML reads this as 1"),
        ("steps: [{wait: soon}]", "steps[0].wait: 'soon' is not a duration"),
        ("steps: [{wait: -1}]", "steps[0].wait: "),
        ("steps: [{log: a, capture: a.b}]", "steps[0].capture: 'a.b' is not a name"),
        ("steps: [{log: a, capture: ''}]", "steps[0].capture: '' is not a name"),
        ("steps: [{set: {'c d': 1}}]", "steps[0].set: 'c d' is not a name of a variable"),
        ("steps: [{compare: {value: 1}}]", "nothing to compare with; give equals, contains"),
        ("steps: [{compare: {value: 1, matches: '['}}]", "matches is not a regular expression: "),
        (
            "steps: [{call: {device: a, method: b}, capture: x}, {compare: {value: '${x}', below: much}}]",
            "compare.below: this is 'much'; it takes a number",
        ),
        ("variables: {a: '${b}', b: 1}\nsteps: [log]", "a variable may use those above it"),
        ("stepps: []", "unknown key 'stepps'; did you mean 'steps'?"),
        ("steps: []", "the test has no steps"),
        ("steps: {power.on: }", "it takes a list of steps"),
        ("steps: [5]", "a step starts with its action"),
        ("steps: [{group: [], device: a}]", "unknown key 'device' beside `group`"),
        ("requires: {interface: [power]}\nsteps: [power.on]", "did you mean 'interfaces'?"),
        ("- power.on", "the file is not a mapping"),
    ],
)
def test_invalid_input_is_named_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(tmp_path, text)
    assert words in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_every_mistake_is_said_wherever_another_is(tmp_path: Path) -> None:
    with pytest.raises(SeveralMistakesError) as caught:
        made(
            tmp_path,
            """
stepps: x
variables: {a: '${b}', c: '${a}'}
timeout: soon
board: [1]
requires: {interface: [power]}
steps:
  - {storage.flash: nothing.img, timeout: later, retries: -1, delay: x, capture: a.b, name: [1]}
  - log: ${a} ${c} ${d}
  - serial.expect: {txt: x, tmeout: 3, regex: [1]}
always: 5
board: rpi4
""",
            {"x": "1"},
        )
    assert [".".join(map(str, error.path)) for error in caught.value.errors] == [
        "board",
        "stepps",
        "variables",
        "variables.a",
        "steps.0.storage.flash",
        "steps.0.capture",
        "steps.0.timeout",
        "steps.0.name",
        "steps.0.retries",
        "steps.1.log",
        "steps.2.serial.expect.txt",
        "steps.2.serial.expect.tmeout",
        "steps.2.serial.expect.regex",
        "always",
        "board",
        "requires.interface",
        "timeout",
    ]


def test_a_mistake_in_a_step_does_not_make_those_that_use_its_variables_wrong(tmp_path: Path) -> None:
    steps = (
        "steps: [{power.onn: , capture: a}, {set: {b: '${z}'}}, {log: '${a}'}, {log: '${b}'}, "
        "{nme: x, group: [{power.read: , capture: c}]}, {log: '${c}'}]"
    )
    with pytest.raises(SeveralMistakesError) as caught:
        made(tmp_path, steps)
    assert [error.path[1] for error in caught.value.errors] == [0, 1, 4]


@pytest.mark.parametrize(
    "text",
    ["echo ${x:-1}", "$${x", "awk '{print ${1}}'", "$x", "{}", "${x#a} $${ ${y%b}", "$$${{b}", "${1-a}"],
)
def test_what_a_shell_reads_stays_as_it_is(tmp_path: Path, text: str) -> None:
    found = made(tmp_path, json.dumps({"steps": [{"log": text}]}))
    (step,) = calls(found.steps)
    assert substitute(step.given, {}) == text.replace("$${", "${")


def test_a_step_may_be_tried_a_thousand_times_more(tmp_path: Path) -> None:
    assert made(tmp_path, "steps: [{power.on: , retries: 1000}]").steps[0].retries == 1000


def test_a_file_is_beside_its_test_or_else_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    monkeypatch.chdir(here)
    (here / "card.img").touch()
    test = there / "test.yaml"
    assert locate(test, "card.img") == Path("card.img")
    assert locate(test, "none.img") == there / "none.img"
    assert locate(test, str(here / "card.img")) == here / "card.img"
    (there / "card.img").touch()
    assert locate(test, "card.img") == there / "card.img"


def test_a_variable_that_the_test_does_not_have_cannot_be_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no variable 'imgae'; did you mean 'image'"):
        made(tmp_path, "variables: {image: a}\nsteps: [power.on]", {"imgae": "b"})


def test_references() -> None:
    variables = {"n": 5, "name": "rpi4"}
    assert substitute({"a": ["${n}", "x${n}y", "$${n}", "$n", "${ name }"]}, variables) == {
        "a": [5, "x5y", "${n}", "$n", "rpi4"]
    }


@pytest.mark.parametrize(
    ("text", "seconds"), [(5, 5.0), (0.5, 0.5), ("500ms", 0.5), ("2m", 120.0), ("1.5 h", 5400.0), ("7", 7.0)]
)
def test_durations(text: float | str, seconds: float) -> None:
    assert parse_duration(text, allow_zero=True) == seconds


@pytest.mark.parametrize("text", [-1, "5 days", "", True, "30x"])
def test_no_durations(text: float | str) -> None:
    with pytest.raises(TimeFormatError, match="duration"):
        parse_duration(text, allow_zero=True)
