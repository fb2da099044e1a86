"""What the outlets of each brand answer, field for field as their makers and users document it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.web_outlets import Asked, Reply, WebOutlets

__all__ = ["shelly_gen1", "shelly_gen2", "tasmota"]


def _json(data: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(data), status)


NOT_FOUND = Reply("Not Found", 404, "text/plain")


def shelly_gen1(device: WebOutlets, asked: Asked) -> Reply:
    """A Shelly EM of the first generation: relays with meters, of which the even ones measure voltage, too."""
    match asked.path.strip("/").split("/"):
        case ["shelly"]:
            return _json({"type": "SHSW-25", "auth": device.login != "", "num_meters": len(device.is_on)})
        case ["relay", number] if number.isdigit() and int(number) in device.is_on:
            outlet = int(number)
            if (turn := asked.query.get("turn")) in ("on", "off"):
                device.switch(outlet, on=turn == "on")
                return _json(_gen1_relay(turn == "on"))
            return _json(_gen1_relay(device.is_on[outlet]))
        case ["status"]:
            return _json(
                {
                    "wifi_sta": {"connected": True, "ssid": "lab", "ip": "192.168.1.65", "rssi": -61},
                    "relays": [_gen1_relay(on) for on in device.is_on.values()],
                    "meters": [
                        {"power": device.watts, "is_valid": True, "timestamp": 1764486000, "total": 120}
                        for _ in device.is_on
                    ],
                    "emeters": [
                        {
                            "power": device.watts,
                            "voltage": 230.5,
                            "current": 0.02,
                            "is_valid": True,
                            "total": 2.0,
                        }
                    ],
                    "uptime": 4711,
                }
            )
    return NOT_FOUND


def _gen1_relay(on: bool) -> dict[str, Any]:
    return {"ison": on, "has_timer": False, "timer_remaining": 0, "overpower": False, "source": "http"}


def shelly_gen2(device: WebOutlets, asked: Asked) -> Reply:
    """A Shelly of the second generation or later. Outlet 0 has a meter, the others have none."""
    if asked.path == "/shelly":
        return _json({"id": "shellyplus1-a8032abe54dc", "gen": 2, "model": "SNSW-001X16EU", "auth_en": True})
    if asked.path == "/rpc":
        call = json.loads(asked.body)
        if call["method"] != "Switch.Set":
            return _json(
                {
                    "id": call["id"],
                    "src": "x",
                    "error": {"code": 404, "message": "No handler for " + call["method"]},
                }
            )
        outlet, on = call["params"]["id"], call["params"]["on"]
        if outlet not in device.is_on:
            error = {"code": -105, "message": f"Argument 'id', value {outlet} not found!"}
            return _json({"id": call["id"], "src": "shellyplus1-a8032abe54dc", "error": error})
        was_on = device.is_on[outlet]
        device.switch(outlet, on=on)
        return _json({"id": call["id"], "src": "shellyplus1-a8032abe54dc", "result": {"was_on": was_on}})
    if asked.path == "/rpc/Switch.GetStatus":
        outlet = int(asked.query["id"])
        if outlet not in device.is_on:
            return _json({"code": -105, "message": f"Argument 'id', value {outlet} not found!"}, 500)
        status = {"id": outlet, "source": "http", "output": device.is_on[outlet], "temperature": {"tC": 53.3}}
        if outlet == 0:
            status |= {
                "apower": device.watts,
                "voltage": 225.9,
                "current": 0.05,
                "pf": 0.79,
                "freq": 50.0,
                "aenergy": {"total": 11.679, "by_minute": [0.0, 0.0, 0.0], "minute_ts": 1764486000},
            }
        return _json(status)
    return Reply("Not Found", 404, "text/plain")


def tasmota(device: WebOutlets, asked: Asked) -> Reply:
    """Tasmota with one relay or several; a password is in the address."""
    if asked.path != "/cm":
        return NOT_FOUND
    if device.password and asked.query.get("password") != device.password:
        return _json({"WARNING": "Need user=<username>&password=<password>"}, 401)
    command, _, value = asked.query.get("cmnd", "").lower().partition(" ")
    if command == "status" and value == "8":
        measured: dict[str, Any] = {
            "TotalStartTime": "2026-11-01T10:00:00",
            "Total": 3.185,
            "Yesterday": 0.1,
            "Today": 0.05,
            "Power": device.watts,
            "ApparentPower": 30,
            "ReactivePower": 18,
            "Factor": 0.8,
            "Voltage": 230,
            "Current": 0.13,
        }
        if len(device.is_on) > 1:
            measured |= {"Power": [device.watts, 483], "Current": [0.13, 2.1]}
        return _json({"StatusSNS": {"Time": "2026-11-30T07:00:00", "ENERGY": measured}})
    number = command.removeprefix("power") or "1"
    if not command.startswith("power") or not number.isdigit() or int(number) not in device.is_on:
        return _json({"Command": "Unknown", "Input": command})
    outlet = int(number)
    if value in ("on", "off"):
        device.switch(outlet, on=value == "on")
        shown = value == "on"
    else:
        shown = device.is_on[outlet]
    return _json({f"POWER{outlet}" if len(device.is_on) > 1 else "POWER": "ON" if shown else "OFF"})
