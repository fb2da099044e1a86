"""Client configurations: strict about what a file has, and what its environment fills in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jumpstarter_proto.yaml_files import ConfigError

from jumpstarter_client.identity.client_config import ClientConfigError, load

FILE = """apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata: {namespace: lab, name: ann}
endpoint: lab.example:8082
token: secret
tls:
  ca: QUJD
  insecure: false
"""
OWN = {"JMP_NAMESPACE": "n", "JMP_NAME": "bob", "JMP_ENDPOINT": "h:1", "JMP_TOKEN": "t"}


def write(folder: Path, text: str) -> str:
    path = folder / "ann.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("more", "place", "sentence"),
    [
        ("tokn: x\n", "ann.yaml:9:1: tokn", "unknown key 'tokn'; did you mean 'token'?"),
        ("drivers:\n  alow: []\n", "ann.yaml:10:3: drivers.alow", "did you mean 'allow'?"),
        (
            "leases: {dial_timeout: soon}\n",
            "ann.yaml:9:10: leases.dial_timeout",
            "this is 'soon'; it takes a number",
        ),
        ("leases: {dial_timeout: 1}\n", "ann.yaml:9:10: leases.dial_timeout", "at least 5"),
        ("leases: {retry_timeout: -1}\n", "ann.yaml:9:10: leases.retry_timeout", "at least 0"),
        (
            "drivers: {unsafe: 'yes'}\n",
            "ann.yaml:9:11: drivers.unsafe",
            "this is 'yes'; it takes true or false",
        ),
        ("shell: 5\n", "ann.yaml:9:1: shell", "must be a mapping"),
        ("refresh_token: [x]\n", "ann.yaml:9:1: refresh_token", "it takes text; put it in quotes"),
    ],
)
def test_what_does_not_belong_into_a_file_is_named_with_its_place(
    tmp_path: Path, more: str, place: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, FILE + more), {})
    assert f"{place}: " in str(caught.value)
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value).replace(str(tmp_path), "")


def test_patience_and_drivers_of_a_file(tmp_path: Path) -> None:
    plain = load(write(tmp_path, FILE), {})
    assert (plain.acquisition_timeout, plain.dial_timeout, plain.retry_timeout) == (7200, 60, 300)
    assert (plain.allow, plain.unsafe) == ((), False)
    more = "leases: {acquisition_timeout: 90, retry_timeout: 0}\ndrivers: {allow: 'a.*, b.C'}\n"
    found = load(write(tmp_path, FILE + more), {})
    assert (found.acquisition_timeout, found.dial_timeout, found.retry_timeout) == (90, 60, 0)
    assert (found.allow, found.unsafe) == (("a.*", "b.C"), False)
    for text in ("{allow: [UNSAFE, x]}", "{unsafe: true}", "{allow: 'UNSAFE'}"):
        assert load(write(tmp_path, f"{FILE}drivers: {text}\n"), {}).unsafe


def test_the_environment_fills_in_and_a_file_counts_before_it(tmp_path: Path) -> None:
    environment = {
        "JMP_LEASES": '{"acquisition_timeout": 90, "dial_timeout": 30}',
        "JMP_RETRY_TIMEOUT": "7",
        "JMP_DRIVERS": '{"allow": ["a.*"]}',
        "JMP_TLS": '{"insecure": true}',
        "JMP_TOKEN": "other",
    }
    found = load(write(tmp_path, FILE + "leases: {dial_timeout: 45}\n"), environment)
    assert (found.acquisition_timeout, found.dial_timeout, found.retry_timeout) == (90, 45, 7)
    assert (found.allow, found.trust.insecure) == (("a.*",), False)
    assert found.identity.token == "secret"
    alone = load(None, OWN | environment)
    assert (alone.identity.name, alone.trust.insecure, alone.retry_timeout) == ("bob", True, 7)
    assert load(None, OWN | {"JMP_DRIVERS_ALLOW": "x.*,UNSAFE"}).unsafe
    less = FILE.replace("token: secret\n", "token: null\n")
    assert load(write(tmp_path, less), {"JMP_TOKEN": "t"}).identity.token == "t"
    with pytest.raises(ClientConfigError, match="`token` is missing"):
        load(write(tmp_path, less), {})


def test_a_file_or_an_alias_that_the_environment_names_counts_before_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    assert load(None, OWN | {"JMP_CLIENT_CONFIG": path}).identity.name == "ann"
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "lab.yaml").write_text(FILE)
    named = OWN | {"JMP_CLIENT": "lab", "JMP_CLIENT_CONFIG_HOME": str(tmp_path)}
    found = load(None, named)
    assert found.identity.name == "ann"
    assert found.path == tmp_path / "clients" / "lab.yaml"


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("JMP_TLS", "{insecure: true}", "JMP_TLS is not JSON"),
        ("JMP_TLS", "[]", "not a JSON object"),
        (
            "JMP_DRIVERS",
            '{"allow": ["a.B", 1]}',
            "JMP_DRIVERS: allow[1]: YAML reads this as 1; to make it text",
        ),
        ("JMP_DRIVERS", json.dumps({"alow": []}), "did you mean 'allow'?"),
        (
            "JMP_LEASES",
            json.dumps({"dial_timeout": "soon"}),
            "JMP_LEASES: dial_timeout: this is 'soon'; it takes a number",
        ),
        ("JMP_DIAL_TIMEOUT", "soon", "invalid JMP_DIAL_TIMEOUT 'soon'; use a number of seconds, at least 5"),
        ("JMP_RETRY_TIMEOUT", "nan", "at least 0"),
    ],
)
def test_invalid_values_in_the_environment(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(ClientConfigError) as caught:
        load(None, OWN | {variable: value})
    assert sentence in str(caught.value)


def test_a_token_is_in_no_text_made_from_a_configuration(tmp_path: Path) -> None:
    assert "secret" not in repr(load(write(tmp_path, FILE), {})).replace(str(tmp_path), "")


@pytest.mark.parametrize("address", ["http://lab:8082", "lab:notaport", "two words:1"])
def test_an_address_that_is_none_is_told_how_one_is_written(tmp_path: Path, address: str) -> None:
    file = write(tmp_path, FILE.replace("lab.example:8082", f"'{address}'"))
    for path, environment in ((file, {}), (None, OWN | {"JMP_ENDPOINT": address})):
        with pytest.raises(
            ClientConfigError, match=r"endpoint: .* is not an address: .*; write HOST:PORT"
        ) as caught:
            load(path, environment)
        assert (path or "JMP_ENDPOINT") in str(caught.value)
