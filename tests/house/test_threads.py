"""Drivers take worker threads of their own device, so that those which block leave others theirs."""

from __future__ import annotations

import ast

from tests.house.rooms import all_modules

AT_THE_USER = {
    "jumpstarter_drivers.serial.terminal",
    "jumpstarter_drivers.storage.changes.send",
    "jumpstarter_drivers.storage.inspection",
    "jumpstarter_drivers.storage.local",
    "jumpstarter_drivers.video.client",
    "jumpstarter_drivers.video.film",
}
"""Modules that only clients import: their process has no other devices."""


def test_a_driver_takes_no_thread_from_the_whole_exporter() -> None:
    """By `self.in_thread`, or with a `limiter`."""
    found = [
        f"{module.name}:{node.lineno}"
        for module in all_modules()
        if module.name.startswith("jumpstarter_drivers.") and not module.is_test
        if module.name not in AT_THE_USER and module.mentions("to_thread")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("to_thread.run_sync")
        and not any(keyword.arg == "limiter" for keyword in node.keywords)
    ]
    assert found == [], "use self.in_thread(function), or name a limiter"


def test_no_limit_of_threads_is_shared_by_the_boards_of_a_host() -> None:
    """As a module's variable would be; codecs in memory, which wait for nobody, are the exception."""
    found = [
        f"{module.name}:{node.lineno}"
        for module in all_modules()
        if module.name.startswith(("jumpstarter_drivers.", "jumpstarter_exporter.")) and not module.is_test
        if module.mentions("CapacityLimiter")
        for node in module.tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and "CapacityLimiter" in ast.unparse(node)
        and module.name != "jumpstarter_exporter.resources"
    ]
    assert found == [], "take the device's threads, which are its board's"


def test_what_only_clients_import_is_not_imported_by_drivers() -> None:
    found = [
        f"{module.name} imports {name}"
        for module in all_modules()
        if module.name.endswith(".driver") or module.name == "jumpstarter_drivers.serial.port"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and (name := node.module or "") in AT_THE_USER
    ]
    assert found == []
