"""An exporter gets a new token: where it is kept, and what others have put there meanwhile stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jumpstarter_proto.lab.v1 import enrolment_grpc, enrolment_pb2, lab_pb2
from jumpstarter_proto.remote import Identity, Kind, Trust
from jumpstarter_proto.rpc import ServerCall

from jumpstarter_exporter.config import Enrolment, ExporterConfig, Identities, load, with_identity
from jumpstarter_exporter.config.model import Tls
from jumpstarter_exporter.registration.conftest import Lab, Wired
from jumpstarter_exporter.registration.renewal import OwnRenewal

ENROLLED = Enrolment("lab:8082", "lab", "one", "before", Tls(ca="QUJD"), Path("anywhere"))
DEVICES = "export: {power: {type: power.MockPower}}\n"
OWN = (
    f"metadata: {{namespace: lab, name: rpi4}}  # on the shelf\nendpoint: lab:8082\ntoken: before\n{DEVICES}"
)


class Tokens(enrolment_grpc.EnrolmentServiceServicer):
    """A controller that makes one token."""

    async def RenewToken(  # noqa: N802 - the wire's name
        self, request: enrolment_pb2.RenewTokenRequest, call: ServerCall[Any, Any]
    ) -> lab_pb2.Credential:
        return lab_pb2.Credential(token="after")


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return Identities(tmp_path / "state" / "identities")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rpi4.yaml"
    file.write_text(DEVICES)
    return file


async def renewed(config: ExporterConfig, identities: Identities, lab: Lab) -> tuple[Identity, Trust]:
    async with Wired(lab, also=[Tokens()]).open() as calls:
        before = Identity(Kind.EXPORTER, "lab", "one", "before")
        return await OwnRenewal(config, identities).renew(calls, before, Trust(ca="QUJD"))


def kept(identities: Identities) -> tuple[str, Path | None]:
    stored = identities.find("rpi4")
    assert stored is not None
    return stored.enrolment.token, stored.config


async def test_a_new_token_takes_the_place_of_the_one_that_is_kept(
    lab: Lab, identities: Identities, file: Path, tmp_path: Path
) -> None:
    config = load(file)
    moved_from = tmp_path / "gone.yaml"
    identities.save("rpi4", ENROLLED, moved_from)
    identity, trust = await renewed(config, identities, lab)
    assert (identity.name, identity.token, trust.ca) == ("one", "after", "QUJD")
    assert kept(identities) == ("after", moved_from)
    assert file.read_text() == DEVICES


async def test_who_was_enrolled_again_meanwhile_keeps_that_token(
    lab: Lab, identities: Identities, file: Path
) -> None:
    config = load(file)
    identities.save("rpi4", Enrolment("lab:8082", "lab", "one", "enrolled again", Tls(), file), file)
    assert (await renewed(config, identities, lab))[0].token == "after"
    assert kept(identities) == ("enrolled again", file)


async def test_a_token_of_the_file_is_replaced_there_and_nothing_else_of_it(
    lab: Lab, identities: Identities, file: Path
) -> None:
    file.write_text(OWN)
    assert (await renewed(load(file), identities, lab))[0].token == "after"
    assert file.read_text() == OWN.replace("token: before", "token: after")
    assert identities.every() == {}


async def test_a_token_of_a_file_that_cannot_be_written_is_kept_in_the_state_directory_and_counts(
    lab: Lab, identities: Identities, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = file.rename(file.with_name(f"{'x' * 246}.yaml"))  # not even root makes a longer name beside it
    file.write_text(OWN)
    config = load(file)
    assert (await renewed(config, identities, lab))[0].token == "after"
    assert file.read_text() == OWN
    assert kept(identities) == ("after", file)
    assert "which is used from now on" in caplog.text
    found = with_identity(config, identities).enrolment
    assert found is not None
    assert (found.name, found.token, found.endpoint) == ("rpi4", "after", "lab:8082")
