"""For each driver of Jumpstarter 0.9.0 that we have, our client has the class that 0.9.0's exporter names for it."""

from __future__ import annotations

import json
import subprocess

from jumpstarter_proto import driver_packages

from tests.support.peers import Environment

PROGRAM = """
import importlib, json, sys

found = {}
for name in json.load(sys.stdin):
    module, _, driver = name.rpartition(".")
    try:
        found[name] = getattr(importlib.import_module(module), driver).client()
    except (ModuleNotFoundError, NotImplementedError):  # not installed, or never reported
        found[name] = None
print(json.dumps(found))
"""


def test_the_client_class_of_each_driver_is_known(upstream: Environment) -> None:
    packages = driver_packages.all_packages()
    types = [name for package in packages for name in package.type_aliases]
    done = subprocess.run(
        [upstream.python, "-c", PROGRAM],
        input=json.dumps(types),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    classes = {name: client for name, client in json.loads(done.stdout.splitlines()[-1]).items() if client}
    installed = {name.partition(".")[0] for name in classes}
    assert {f"jumpstarter_driver_{one}" for one in ("gpiod", "snmp", "tasmota", "ustreamer")} <= installed
    known = {name for package in packages for name in package.clients}
    assert {name: client for name, client in classes.items() if client not in known} == {}
