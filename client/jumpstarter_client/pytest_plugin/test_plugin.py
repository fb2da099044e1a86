"""The plugin in a pytest of its own, against a virtual board over real gRPC."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jumpstarter_client.errors import ConnectError
from jumpstarter_client.pytest_plugin.boards import Target, target

CONFIG = """
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {namespace: lab, name: plugin}
export:
  rpi4:
    type: virtual.VirtualBoard
    config: {boot_seconds: 0}
  spare:
    type: virtual.VirtualBoard
    config: {boot_seconds: 0}
"""
OPTIONS = ("--jumpstarter-exporter", "lab.yaml", "-p", "no:cacheprovider", "-rs")


@pytest.fixture
def lab(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("JUMPSTARTER_HOST", raising=False)
    pytester.makefile(".yaml", lab=CONFIG)
    return pytester


def test_blocking_and_async_tests_use_one_exporter(lab: pytest.Pytester) -> None:
    lab.makepyfile(
        """
        import pytest

        def test_on(jumpstarter):
            jumpstarter.rpi4.power.on()

        @pytest.mark.trio
        async def test_is_still_on(jumpstarter_async):
            async for reading in jumpstarter_async.rpi4.power.read.aio(1):
                assert reading.current > 0
        """
    )
    lab.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=2)


def test_a_file_in_the_ini_file_is_beside_it_wherever_pytest_starts(
    lab: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.makeini("[pytest]\njumpstarter_exporter = lab.yaml\n")
    folder = lab.mkdir("folder")
    (folder / "test_it.py").write_text("def test_on(jumpstarter):\n    jumpstarter.rpi4.power.on()\n")
    monkeypatch.chdir(folder)
    lab.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_what_the_hardware_lacks_skips_with_the_reason(lab: pytest.Pytester) -> None:
    lab.makepyfile(
        """
        import pytest

        @pytest.mark.jumpstarter(requires=["camera", "power"])
        def test_camera():
            raise AssertionError

        @pytest.mark.jumpstarter(labels={"soc": "vax"})
        def test_labels():
            raise AssertionError

        @pytest.mark.jumpstarter(requires="power")
        def test_power(jumpstarter):
            pass
        """
    )
    result = lab.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines_random(
        ["*no device has the interface 'camera', which*", "*no device has the labels soc=vax, which*"]
    )


def test_a_failing_tests_report_has_its_consoles_and_no_other_tests(lab: pytest.Pytester) -> None:
    lab.makepyfile(
        """
        def test_before(jumpstarter):
            with jumpstarter.spare.serial.stream() as console:
                jumpstarter.spare.power.on()
                said = b""
                while b"login: " not in said:
                    said += console.receive()

        def test_boots(jumpstarter):
            with jumpstarter.rpi4.serial.stream() as console:
                jumpstarter.rpi4.power.on()
                said = b""
                while b"login: " not in said:
                    said += console.receive()
            assert False, "on purpose"
        """
    )
    result = lab.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*console rpi4.serial*", "U-Boot*"])
    result.stdout.no_fnmatch_line("*console spare.serial*")
    assert "\x1b" not in result.stdout.str()


def test_classes_in_jumpstarters_style(lab: pytest.Pytester) -> None:
    lab.makepyfile(
        """
        import pytest
        from jumpstarter_client.pytest_plugin import JumpstarterTest

        class TestBoard(JumpstarterTest):
            @pytest.fixture(scope="class")
            @classmethod
            def board(cls, client):
                client.rpi4.power.on()
                yield client.rpi4
                client.rpi4.power.off()

            def test_is_on(self, board):
                assert next(board.power.read()).current > 0

        class TestLeased(JumpstarterTest):
            selector = "board=rpi4"

            def test_nothing(self, client):
                pass
        """
    )
    result = lab.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*no client configuration: log in with*"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jumpstarter-selector", "a=b"), "no client configuration"),
        (("--jumpstarter-lease", "x"), "no client configuration"),
        (("--jumpstarter-lease", "x", "--jumpstarter-exporter", "y"), "use one of them"),
        (("--jumpstarter-exporter", "nowhere.sock"), "nowhere.sock"),
        (("--jumpstarter-exporter", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
    ],
)
def test_what_cannot_be_reached_is_said_in_a_sentence(
    lab: pytest.Pytester, options: tuple[str, ...], words: str
) -> None:
    lab.makepyfile("def test_it(jumpstarter): pass")
    result = lab.runpytest_subprocess(*options, "-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    said = result.stdout.str()
    assert words in said
    assert "Traceback" not in said
    assert "another exception" not in said


def test_each_process_of_xdist_has_a_board_of_its_own(lab: pytest.Pytester, tmp_path: Path) -> None:
    """Two boards, two processes; a third is refused."""
    import subprocess

    socket = tmp_path / "s"
    exporter = Path(sys.executable).with_name("jumpstarter-exporter")
    command = [str(exporter), "run", "--config", "lab.yaml", "--socket", str(socket)]
    lab.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(8))
        def test_it(jumpstarter, worker_id, n):
            assert list(jumpstarter.children) == [{"gw0": "rpi4", "gw1": "spare"}[worker_id]]
        """
    )
    options = ("--jumpstarter-exporter", str(socket), "-p", "no:cacheprovider", "--dist", "each")
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=lab.path) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        try:
            lab.runpytest_subprocess("-n2", *options).assert_outcomes(passed=16)
            refused = lab.runpytest_subprocess("-n3", *options)
        finally:
            daemon.terminate()
    refused.assert_outcomes(passed=16, errors=8)
    refused.stdout.fnmatch_lines(
        ["*the exporter has 2 boards (rpi4, spare) for 3 processes*run pytest with -n 2*"]
    )


def test_several_processes_start_no_exporters_of_their_own() -> None:
    assert target("lab.yaml", None, None, (0, 1)) == Target(config="lab.yaml")
    with pytest.raises(ConnectError, match="2 processes cannot each start an exporter"):
        target("lab.yaml", None, None, (0, 2))
    with pytest.raises(ConnectError, match="is a single board"):
        target("lab.yaml", None, None, (0, 1), board="rock")
    with pytest.raises(ConnectError, match="one of the boards that a host serves"):
        target(None, None, "mine", (0, 1), board="rock")


def test_a_project_without_boards_loads_the_plugin_and_not_what_it_needs_for_boards(
    lab: pytest.Pytester,
) -> None:
    lab.makepyfile(
        """
        import sys

        def test_it():
            assert "jumpstarter_client.pytest_plugin" in sys.modules
            ours = {name for name in sys.modules if name.startswith(("jumpstarter", "google.protobuf", "h2"))}
            lazy = {"jumpstarter_proto", "jumpstarter_proto.lazy_names"}
            assert ours == {"jumpstarter_client", "jumpstarter_client.pytest_plugin"} | lazy
        """
    )
    lab.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
