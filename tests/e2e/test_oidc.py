"""Users of another issuer: a real OpenID provider, our controller, and our client."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import yaml
from jumpstarter_client.controller.controller_client import ControllerClient
from jumpstarter_client.identity.client_config import ClientConfig
from jumpstarter_controller.process.data_folder import DataFolder
from jumpstarter_proto.remote import Identity, Kind, Trust, open_controller
from jumpstarter_proto.rpc import RpcError
from jumpstarter_proto.v1.jumpstarter_grpc import ControllerServiceStub
from jumpstarter_proto.v1.jumpstarter_pb2 import RegisterRequest
from jumpstarter_proto.yaml_files import set_values

from tests.e2e.lab import LIMIT, Lab
from tests.interop import exporters
from tests.support import oidc
from tests.support.oidc import AUDIENCE, Provider

pytestmark = pytest.mark.timeout(300)


@contextmanager
def lab_with(provider: Provider, folder: Path, **changes: object) -> Iterator[Lab]:
    """A lab whose controller takes the provider's tokens."""
    folder.mkdir(exist_ok=True)
    issuer = {"url": provider.url, "audiences": [AUDIENCE], "certificateAuthority": str(provider.ca)}
    username = {"claim": "preferred_username", "prefix": "lab:"}
    jwt = [{"issuer": issuer, "claimMappings": {"username": username | changes}}]
    config = {"authentication": {"jwt": jwt}, "provisioning": {"enabled": True}}
    file = folder / "controller.yaml"
    file.write_text(yaml.safe_dump(config))
    with Lab.opened("--config", str(file)) as lab:
        yield lab


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with oidc.provider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


def ask(lab: Lab, token: str, name: str = "", kind: Kind = Kind.CLIENT, namespace: str = "default") -> None:
    """A call with that token. RpcError if it is refused."""
    addresses = DataFolder(lab.home / "data").addresses()
    identity = Identity(kind, namespace, name, token)

    async def call() -> None:
        trust = Trust(ca=base64.b64encode(addresses.ca.encode()).decode())
        async with ControllerClient(ClientConfig(addresses.endpoint, identity, trust)).open() as controller:
            await controller.check()

    trio.run(call)


def clients(lab: Lab) -> list[str]:
    return lab.admin("client", "list", "-o", "name").split()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256"])
def test_a_robot_by_its_own_token_becomes_a_client(tmp_path: Path, algorithm: str) -> None:
    provider = Provider(tmp_path / "oidc")
    with provider.running(algorithm=algorithm), lab_with(provider, tmp_path) as lab:
        token = provider.robot_token()
        ask(lab, token)
        assert clients(lab) == ["robot"]
        ask(lab, token, name="robot")
        with pytest.raises(RpcError, match="resource name mismatch"):
            ask(lab, token, name="ann")
        with pytest.raises(RpcError, match="object kind mismatch"):
            ask(lab, token, kind=Kind.EXPORTER)
        with pytest.raises(RpcError, match="not found"):
            ask(lab, token, namespace="elsewhere")
        with pytest.raises(RpcError, match="failed to authenticate"):
            ask(lab, token[:-8] + "AAAAAAAA")
        lab.admin("client", "disable", "robot")
        with pytest.raises(RpcError, match="is disabled"):
            ask(lab, token)
        assert "eyJ" not in lab.controller.log.read_text()


def test_who_is_registered_by_name_is_that_client_and_nobody_else(provider: Provider, tmp_path: Path) -> None:
    with lab_with(provider, tmp_path) as lab:
        assert "lab:robot; they log in" in lab.admin(
            "client", "create", "robot", "--oidc-username", "lab:robot"
        )
        ask(lab, provider.robot_token())
        lab.admin("client", "delete", "robot")
        lab.admin("client", "create", "robot", "--oidc-username", "lab:somebody")
        with pytest.raises(RpcError, match="permission denied for client default/robot"):
            ask(lab, provider.robot_token())
        lab.admin("client", "delete", "robot")
        lab.client("robot")  # one with our own tokens only
        with pytest.raises(RpcError, match="permission denied for client default/robot"):
            ask(lab, provider.robot_token())


def test_an_exporter_may_be_a_user_of_the_issuers_but_never_comes_by_itself(
    provider: Provider, tmp_path: Path
) -> None:
    with lab_with(provider, tmp_path) as lab:
        addresses = DataFolder(lab.home / "data").addresses()
        trust = Trust(ca=base64.b64encode(addresses.ca.encode()).decode())
        identity = Identity(Kind.EXPORTER, "default", "robot", provider.robot_token())

        async def register() -> None:
            async with open_controller(addresses.endpoint, trust, identity) as channel:
                await ControllerServiceStub(channel).Register(RegisterRequest(), timeout=60)

        with pytest.raises(RpcError, match="not found"):
            trio.run(register)
        lab.admin("exporter", "create", "robot", "--oidc-username", "lab:robot")
        trio.run(register)


@pytest.mark.clock_rate(5)
def test_new_keys_are_found_and_old_ones_go_on_without_the_issuer(tmp_path: Path) -> None:
    provider = Provider(tmp_path / "oidc")
    new = {"kid": "second", "algorithm": "ES256"}
    with lab_with(provider, tmp_path) as lab:
        with provider.running(**new):
            second = provider.robot_token()
        with provider.running(kid="first"):
            first = provider.robot_token()
            ask(lab, first)
            with pytest.raises(RpcError, match="has no key that it is signed with"):
                ask(lab, second)  # keys are not fetched again at once
        ask(lab, first)  # nobody is there, and its keys are known
        with provider.running(**new):

            def counts() -> bool:
                try:
                    ask(lab, second)
                except RpcError:
                    return False
                return True

            lab.until(counts)
            with pytest.raises(RpcError, match="failed to authenticate"):
                ask(lab, first)


def test_a_token_for_somebody_else_does_not_count(provider: Provider, tmp_path: Path) -> None:
    with lab_with(provider, tmp_path) as lab:
        fields = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": "robot-secret"}
        fields["resource"] = "urn:another"
        reply = provider.browser().open(f"{provider.url}/token", fields)
        with pytest.raises(RpcError, match=f"for another audience, not for {AUDIENCE}"):
            ask(lab, json.loads(reply)["access_token"])
        assert clients(lab) == []


def test_a_configuration_that_is_invalid_keeps_the_controller_from_starting(tmp_path: Path) -> None:
    file = tmp_path / "controller.yaml"
    file.write_text("authentication:\n  jwt:\n    - issuer: {url: https://x, audiences: [a]}\n")
    done = subprocess.run(
        [
            exporters.scripts() / "jumpstarter-controller",
            "run",
            "--config",
            file,
            "--data",
            tmp_path / "data",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"{file}:3:7: authentication.jwt[0]: 'claimMappings' is missing" in done.stderr


def logging_in(lab: Lab, *words: str, **environment: str) -> subprocess.Popen[str]:
    addresses = DataFolder(lab.home / "data").addresses()
    pin = ["--tls-fingerprint", addresses.fingerprint]
    return lab.start("login", addresses.endpoint, *pin, *words, **environment)


def told(process: subprocess.Popen[str], before: str) -> str:
    """The URL behind these words in what a command says."""
    assert process.stderr is not None
    for line in process.stderr:
        if before in line:
            return line.partition(before)[2].strip()
    raise AssertionError(f"it ended with {process.wait()} and never said {before!r}")


def saved(lab: Lab, alias: str = "ann-lee") -> dict[str, str]:
    path = lab.home / ".config" / "jumpstarter" / "clients" / f"{alias}.yaml"
    found: dict[str, str] = yaml.safe_load(path.read_text())
    return found


@pytest.mark.clock_rate(5)  # a login that asks every five seconds whether it is done
def test_a_login_on_any_page_and_new_tokens_in_time(tmp_path: Path) -> None:
    # Good for less than what a command wants, so each of them needs a new one.
    with oidc.provider(tmp_path / "oidc", seconds=100) as provider, lab_with(provider, tmp_path) as lab:
        process = logging_in(lab)
        page = provider.browser().log_in(told(process, "or open "), "Ann.Lee")
        assert "Success" in page
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        assert "client default/ann-lee of " in out
        first = saved(lab)
        assert first["refresh_token"]
        lab.exporter("one")
        lab.ok("power", "on", "rpi4", "-l", "board=rpi4")
        second = saved(lab)
        assert second["token"] != first["token"]
        # Each refresh token counts once: who come at once must not use the same.
        many = [lab.start("lease", "list") for _ in range(4)]
        assert [one.wait(LIMIT) for one in many] == [0, 0, 0, 0]
        assert saved(lab)["token"] != second["token"]
        assert "new token, valid until" in lab.ok("auth", "refresh")
        shown = lab.ok("auth", "status")
        assert "left)" in shown
        assert f"token:       issued by {provider.url}, until" in shown
        assert "another issuer's" in lab.refused("auth", "rotate")[1]
        lab.admin("client", "disable", "ann-lee")
        assert "is disabled" in lab.refused("lease", "list")[1]
        for text in (lab.controller.log.read_text(), out, err, shown):
            assert "eyJ" not in text
            assert first["refresh_token"] not in text


def test_a_login_with_this_machines_browser_and_once_more(provider: Provider, tmp_path: Path) -> None:
    with lab_with(provider, tmp_path) as lab:
        process = logging_in(lab, "--browser", BROWSER="true")
        url = told(process, "if it does not open, open ")
        port = url.partition("localhost%3A")[2].partition("%2F")[0]
        forged = provider.browser()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            forged.open(f"http://localhost:{port}/callback?code=mine&state=guessed")
        assert "You are logged in" in provider.browser().log_in(url, "Ann.Lee")
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, err
        first = saved(lab)
        again = lab.start("login", "--browser", BROWSER="true")
        provider.browser().log_in(told(again, "if it does not open, open "), "Ann.Lee")
        _, err = again.communicate(timeout=LIMIT)
        assert again.returncode == 0, err
        assert saved(lab)["token"] != first["token"]
        # As somebody else one does not get into this configuration.
        third = lab.start("login", "--browser", BROWSER="true")
        provider.browser().log_in(told(third, "if it does not open, open "), "bob")
        _, err = third.communicate(timeout=LIMIT)
        assert (third.returncode, "resource name mismatch" in err) == (5, True), err


@pytest.mark.clock_rate(5)
def test_a_token_that_cannot_be_renewed_says_to_log_in(tmp_path: Path) -> None:
    with oidc.provider(tmp_path / "oidc", seconds=3) as provider, lab_with(provider, tmp_path) as lab:
        process = logging_in(lab)
        provider.browser().log_in(told(process, "or open "), "Ann.Lee")
        assert process.wait(LIMIT) == 0
        path = lab.home / ".config" / "jumpstarter" / "clients" / "ann-lee.yaml"
        path.write_text(set_values(path.read_text(), {("refresh_token",): "wrong"}))
        lab.until(lambda: "run `jumpstarter login`" in lab.run("lease", "list").stderr)
        code, said = lab.refused("lease", "list")
        assert (code, "the token has expired" in said) == (5, True)
    for words in (["--issuer", provider.url], []):
        with lab_with(provider, tmp_path) as lab:
            code, said = logging_in(lab, *words).wait(LIMIT), ""
            assert code == 4, said  # nobody is there any more
