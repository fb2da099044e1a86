"""What of an enrolment needs no controller; tests/e2e/test_image_site.py has one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jumpstarter_proto.private_files import MAX_FILE_BYTES

from jumpstarter_image import enrolment, settings_store
from jumpstarter_image.enrolment import EnrolmentResult, enrol, last_trouble
from jumpstarter_image.kept import MAX_USED_CODES, Kept
from tests.support.image_host import ImageHost

CODE = Kept(endpoint="lab:8082", fingerprint="AB", pairing_code="HOST-AAAA")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageHost:
    machine = ImageHost(tmp_path)
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    return machine


def test_the_code_is_in_no_argument_and_nobody_is_enrolled_without_one(machine: ImageHost) -> None:
    machine.program(
        "jumpstarter-exporter",
        f'echo "$@" > {machine.root}/words; read code; echo "$code" > {machine.root}/code',
    )
    assert enrol(machine.host) == (EnrolmentResult.NOTHING_TO_DO, "")
    settings_store.save(machine.host, CODE)
    assert enrol(machine.host) == (EnrolmentResult.ENROLLED, "")
    assert (machine.root / "words").read_text() == "enrol lab:8082 --replace --tls-fingerprint AB\n"
    assert (machine.root / "code").read_text() == "HOST-AAAA\n"
    assert enrol(machine.host) == (EnrolmentResult.NOTHING_TO_DO, "")


def test_a_host_that_cannot_write_down_its_attempt_uses_no_code(machine: ImageHost) -> None:
    settings_store.save(machine.host, CODE)
    machine.program("jumpstarter-exporter", f"touch {machine.root}/used")
    (machine.host.state_folder / "state.json").unlink()
    (machine.host.state_folder / "state.json").mkdir()
    step, said = enrol(machine.host)
    assert step is EnrolmentResult.AGAIN
    assert "state.json cannot be read: Is a directory" in said
    assert last_trouble(machine.host) == said
    assert not (machine.root / "used").exists()


def test_an_enrolment_that_hangs_is_tried_again(machine: ImageHost, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_store.save(machine.host, CODE)
    machine.program("jumpstarter-exporter", "exec sleep 1000")
    monkeypatch.setattr(enrolment, "ENROL_SECONDS", 0.5)
    assert enrol(machine.host) == (EnrolmentResult.AGAIN, "jumpstarter-exporter did not end within 0.5 s")


def test_a_controller_on_the_card_goes_by_its_own_clock_when_nobody_tells_the_time(
    machine: ImageHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_store.save(machine.host, Kept(controller=True))
    machine.fact("clock", "no")
    machine.program("jumpstarter-controller", "echo 'jumpstarter-controller: not yet' >&2; exit 4")
    monkeypatch.setattr(enrolment, "CLOCK_SECONDS", 1e12)
    assert enrol(machine.host) == (EnrolmentResult.AGAIN, "the time is not known yet")
    monkeypatch.setattr(enrolment, "CLOCK_SECONDS", 0.0)
    assert enrol(machine.host) == (EnrolmentResult.AGAIN, "not yet")
    monkeypatch.setattr(enrolment, "CLOCK_SECONDS", 1e12)
    machine.fact("clock", "yes")
    assert enrol(machine.host) == (EnrolmentResult.AGAIN, "not yet")


def test_a_time_server_that_is_about_to_answer_is_waited_for(machine: ImageHost) -> None:
    settings_store.save(machine.host, CODE)
    machine.fact("clock", "no")
    machine.program("jumpstarter-exporter", f"touch {machine.root}/used")
    assert enrol(machine.host) == (
        EnrolmentResult.AGAIN,
        "the time is not known yet, without which no certificate can be checked",
    )
    assert not (machine.root / "used").exists()
    words = f"-n waitsync {enrolment.SYNC_SECONDS} 0 0 1"
    machine.program("chronyc", f'[ "$*" = "{words}" ] && echo yes >{machine.root.parent}/facts/clock')
    assert enrol(machine.host) == (EnrolmentResult.ENROLLED, "")


def test_a_clock_that_was_set_is_right_before_the_kernel_says_so(machine: ImageHost) -> None:
    machine.fact("clock", "no")
    assert not enrolment.is_time_known(machine.host)
    machine.program("chronyc", '[ "$*" = "-n waitsync 1 0 0 1" ]')
    assert enrolment.is_time_known(machine.host)


def test_the_last_codes_are_remembered() -> None:
    kept = Kept()
    for number in range(2 * MAX_USED_CODES):
        kept = Kept(pairing_code=f"HOST-{number}", used_codes=kept.used_codes).with_used_code()
    assert len(kept.used_codes) == MAX_USED_CODES


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_the_exporters_user_puts_in_place_of_its_identity_keeps_nobody_waiting(
    machine: ImageHost, kind: str
) -> None:
    """It owns the folder. A boot reads the identity before there is a network."""
    identity = machine.host.exporter_state / "host.yaml"
    identity.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(identity)
    else:
        identity.symlink_to("/dev/zero")
    machine.write("hostname: pi")
    assert machine.boot().returncode == 0
    assert "Controller: none" in machine.status()
    identity.unlink()
    identity.write_text(f"metadata: {{name: pi}}\nendpoint: lab\n# {'x' * MAX_FILE_BYTES}\n")
    assert enrolment.enrolled_as(machine.host) == enrolment.Enrolled("pi", "lab")


def test_a_controller_that_prints_something_else_is_asked_again(machine: ImageHost) -> None:
    settings_store.save(machine.host, Kept(controller=True))
    for words in ("[]", '{"code": "x"}', "no JSON", '"text"'):
        machine.program("jumpstarter-controller", f"echo '{words}'")
        assert enrol(machine.host) == (
            EnrolmentResult.AGAIN,
            "the controller of this card printed no pairing code",
        )
