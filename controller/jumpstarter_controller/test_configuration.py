from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_controller.configuration import Configuration, load, unread

CA = trustme.CA().cert_pem.bytes().decode()
ISSUER = """\
authentication:
  internal:
    tokenLifetime: 720h
  jwt:
    - issuer:
        url: https://id.example
        audiences: [jumpstarter, lab]
        certificateAuthority: ca.pem
      claimMappings:
        username: {claim: preferred_username, prefix: "lab:"}
      claimValidationRules:
        - {claim: group, requiredValue: lab}
provisioning:
  enabled: true
"""


def read(folder: Path, text: str) -> Configuration:
    (folder / "ca.pem").write_text(CA)
    file = folder / "controller.yaml"
    file.write_text(text)
    return load(file)


def test_all_of_it(tmp_path: Path) -> None:
    found = read(tmp_path, ISSUER)
    (issuer,) = found.issuers
    assert (issuer.url, issuer.audiences) == ("https://id.example", ("jumpstarter", "lab"))
    assert (issuer.claim, issuer.prefix) == ("preferred_username", "lab:")
    assert issuer.ca == CA
    assert issuer.required == {"group": "lab"}
    assert found.provisioned == {"default"}
    assert found.token_seconds == 720 * 3600


def test_certificates_may_stand_in_it_and_little_is_needed(tmp_path: Path) -> None:
    pem = "\n".join("          " + line for line in CA.splitlines())
    text = ISSUER.replace("certificateAuthority: ca.pem", f"certificateAuthority: |\n{pem}")
    assert read(tmp_path, text).issuers[0].ca.strip() == CA.strip()
    assert read(tmp_path, "provisioning: {enabled: false}\n") == Configuration(token_seconds=8760 * 3600.0)
    assert read(tmp_path, "authentication:\n").issuers == ()


def test_nobody_becomes_a_client_by_themselves_unless_that_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, "provisioning: {namespaces: [lab]}\n").provisioned == frozenset()
    assert read(tmp_path, "provisioning: {enabled: true, namespaces: [lab]}\n").provisioned == {"lab"}


def test_what_only_a_restart_takes_up_is_said(tmp_path: Path) -> None:
    before = read(tmp_path, ISSUER)
    file = tmp_path / "controller.yaml"
    assert unread(file, before) == ""
    for old, new in (("720h", "721h"), ("provisioning:", "provisioning_:"), ("https://id", "https://other")):
        changed = ISSUER.replace(old, new)
        assert changed != ISSUER
        file.write_text(changed)
        said = unread(file, before)
        assert said.startswith(str(file))
        assert ("restart the controller" in said) == (old != "provisioning:")
        assert ("the values read at the start stay in use" in said) == (old == "provisioning:")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("audiences:", "audience:"), r":7:9: .*unknown key 'audience'; did you mean 'audiences'\?"),
        (("url: https:", "url: http:"), r":6:9: .*begins with https://"),
        (("https://id.example", "https://localhost:8085"), r":6:9: .*this controller's own tokens"),
        (("[jumpstarter, lab]", "[]"), r":7:9: .*no audience"),
        (("[jumpstarter, lab]", "jumpstarter"), r":7:9: .*it takes a list"),
        (("ca.pem", "none.pem"), r":8:9: .*none.pem cannot be read"),
        (("ca.pem", "controller.yaml"), r":8:9: .*not a PEM certificate"),
        (('"lab:"', '"internal:"'), r":10:47: .*for the controller's own"),
        (("{claim: preferred_username,", "{"), r"'claim' is missing"),
        (("tokenLifetime: 720h", "prefix: mine"), r":3:5: .*is always internal:"),
        (("720h", "soon"), r":3:5: .*is not a duration"),
        (("enabled: true", "enabled: maybe"), r":14:3: .*it takes true or false"),
        (("provisioning:\n  enabled", "provisioning:\n  enable"), r":14:3: .*did you mean 'enabled'"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    assert change[0] in ISSUER
    with pytest.raises(ConfigError, match=sentence):
        read(tmp_path, ISSUER.replace(*change))


def test_the_file_of_jumpstarters_own_operator_loads(tmp_path: Path) -> None:
    text = """\
authentication:
  internal: {prefix: "internal:", tokenLifetime: 43800h}
  k8s: {enabled: true}
provisioning: {enabled: false}
grpc: {keepalive: {minTime: 1s, permitWithoutStream: true}}
"""
    assert read(tmp_path, text).token_seconds == 43800 * 3600


def test_an_issuer_is_there_once(tmp_path: Path) -> None:
    entry = ISSUER[ISSUER.index("    - issuer") : ISSUER.index("provisioning")]
    with pytest.raises(ConfigError, match="there twice"):
        read(tmp_path, ISSUER.replace(entry, entry + entry))
