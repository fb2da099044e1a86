"""What more brands of outlets answer; see `web_outlet_models`."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.web_outlets import Asked, Model, Reply, WebOutlets

__all__ = ["BRANDS"]

NOT_FOUND = Reply("Not Found", 404, "text/plain")


def _json(data: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(data), status)


def _page(text: str, kind: str = "text/html") -> Reply:
    return Reply(text, 200, kind)


def _form(text: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in text.split("&") if part)


def _ones(device: WebOutlets) -> list[int]:
    return [int(on) for on in device.is_on.values()]


def esphome(device: WebOutlets, asked: Asked) -> Reply:
    """Switches by their names; 1 is `relay_1`."""
    found = re.fullmatch(r"/switch/relay_(\d+)(?:/turn_(on|off))?", asked.path)
    if found is None or int(found[1]) not in device.is_on:
        return NOT_FOUND
    outlet = int(found[1])
    if found[2]:
        if asked.method != "POST":
            return Reply("", 405, "text/plain")
        device.switch(outlet, on=found[2] == "on")
        return _page("")
    on = device.is_on[outlet]
    return _json({"id": f"switch-relay_{outlet}", "value": on, "state": "ON" if on else "OFF"})


def home_assistant(device: WebOutlets, asked: Asked) -> Reply:
    """Entities `switch.board_1`; a service call for one that does not exist changes nothing and says so in no way."""
    if found := re.fullmatch(r"/api/services/switch/turn_(on|off)", asked.path):
        entity = json.loads(asked.body)["entity_id"]
        outlet = int(entity.removeprefix("switch.board_") or 0)
        if asked.method == "POST" and outlet in device.is_on:
            device.switch(outlet, on=found[1] == "on")
            return _json([{"entity_id": entity, "state": found[1], "attributes": {}}])
        return _json([])
    if found := re.fullmatch(r"/api/states/(switch\.board_(\d+))", asked.path):
        if int(found[2]) in device.is_on:
            state = "on" if device.is_on[int(found[2])] else "off"
            return _json({"entity_id": found[1], "state": state, "attributes": {"friendly_name": "Board"}})
        return _json({"message": "Entity not found."}, 404)
    return NOT_FOUND


def netio(device: WebOutlets, asked: Asked) -> Reply:
    """Its JSON API; Load in watts, Current in milliamperes."""
    if asked.path != "/netio.json":
        return NOT_FOUND
    if asked.method == "POST":
        for one in json.loads(asked.body)["Outputs"]:
            if one["ID"] not in device.is_on or one["Action"] not in (0, 1):
                return _json({"errors": [{"id": one["ID"]}]}, 400)
            device.switch(one["ID"], on=one["Action"] == 1)
    outputs = [
        {
            "ID": n,
            "Name": f"output_{n}",
            "State": int(on),
            "Action": 6,
            "Delay": 5000,
            "Current": 130,
            "PowerFactor": 0.6,
            "Load": device.watts,
            "Energy": 42,
        }
        for n, on in device.is_on.items()
    ]
    whole = {"Voltage": 231.5, "Frequency": 50.0}
    return _json({"Agent": {"NumOutputs": 4}, "GlobalMeasure": whole, "Outputs": outputs[::-1]})


def energenie(device: WebOutlets, asked: Asked) -> Reply:
    """One address at a time is let in, by a page with a password."""
    if asked.path == "/login.html":
        is_good = asked.method == "POST" and _form(asked.body).get("pw") == device.password
        device.session = "in" if is_good else None
        return _page("<html>logged in</html>" if is_good else "<html>Please enter the password</html>")
    if device.session is None:
        return _page("<html>Please enter the password</html>")
    if asked.path == "/energenie.html":
        states = ",".join(map(str, _ones(device)))
        return _page(f"<script>var sockstates = [{states}];var sockNames = ['a'];</script>")
    if asked.path == "/" and (found := re.fullmatch(r"cte(\d+)=([01])", asked.body)):
        if int(found[1]) in device.is_on:
            device.switch(int(found[1]), on=found[2] == "1")
        return _page("<html></html>")
    return NOT_FOUND


def _gude(device: WebOutlets, asked: Asked, switch: str, status: str) -> Reply:
    if asked.path == switch and asked.query.get("cmd") == "1":
        outlet = int(asked.query["p"])
        if outlet in device.is_on:
            device.switch(outlet, on=asked.query["s"] == "1")
        return _page("<html></html>")
    if asked.path == status and asked.query.get("components") == "1":
        return _json(
            {
                "outputs": [
                    {"name": f"Power Port {n}", "state": int(on), "type": 1} for n, on in device.is_on.items()
                ]
            }
        )
    return NOT_FOUND


def gude(device: WebOutlets, asked: Asked) -> Reply:
    """Newer firmware."""
    return _gude(device, asked, "/ov.html", "/status.json")


def gude_old(device: WebOutlets, asked: Asked) -> Reply:
    """Older firmware."""
    return _gude(device, asked, "/switch.html", "/statusjsn.js")


def digital_loggers(device: WebOutlets, asked: Asked) -> Reply:
    """The older interface: a hexadecimal mask of all outlets."""
    if asked.path == "/outlet":
        for name, value in asked.query.items():
            if int(name) in device.is_on:
                device.switch(int(name), on=value == "ON")
        return _page("<html>URL=/index.htm</html>")
    if asked.path == "/status":
        mask = sum(on << (n - 1) for n, on in device.is_on.items())
        return _page(f'<div id="state">{mask:02x}</div><div id="lock">00</div><div id="perm">ff</div>')
    return NOT_FOUND


def digital_loggers_rest(device: WebOutlets, asked: Asked) -> Reply:
    """REST, which counts from 0; changes need a header that no other site's page can send."""
    found = re.fullmatch(r"/restapi/relay/outlets/(\d+)/(state|physical_state)/", asked.path)
    if found is None or int(found[1]) + 1 not in device.is_on:
        return _json({"error": "Outlet index out of range"}, 404)
    if asked.method == "PUT":
        if "x-csrf" not in asked.headers or found[2] != "state":
            return Reply("", 403, "text/plain")
        device.switch(int(found[1]) + 1, on=_form(asked.body)["value"] == "true")
        return Reply("", 204, "text/plain")
    return _json(device.is_on[int(found[1]) + 1])


def openwrt_poe(device: WebOutlets, asked: Asked) -> Reply:
    """ubus for realtek-poe; 6 is UBUS_STATUS_PERMISSION_DENIED."""
    call = json.loads(asked.body)
    session, thing, method, arguments = call["params"]
    if asked.path != "/ubus" or asked.method != "POST" or set(session) != {"0"} or thing != "poe":
        return _json({"jsonrpc": "2.0", "id": call["id"], "result": [6]})
    if method == "manage":
        outlet = int(arguments["port"].removeprefix("lan"))
        if outlet not in device.is_on:
            return _json({"jsonrpc": "2.0", "id": call["id"], "result": [2]})
        device.switch(outlet, on=arguments["enable"])
        return _json({"jsonrpc": "2.0", "id": call["id"], "result": [0]})
    ports = {
        f"lan{n}": {
            "priority": 2,
            "mode": "PoE+",
            "status": "Delivering power" if on else "Disabled",
            "consumption": device.watts,
        }
        for n, on in device.is_on.items()
    }
    info = {"firmware": "v24.4", "mcu": "Nuvoton", "budget": 65.0, "consumption": 1.8, "ports": ports}
    return _json({"jsonrpc": "2.0", "id": call["id"], "result": [0, info]})


def aten(device: WebOutlets, asked: Asked) -> Reply:
    """A form with the password, or a query with it."""
    told = _form(asked.body) if asked.method == "POST" else asked.query
    if asked.path != "/api/outlet/relay":
        return NOT_FOUND
    if (told.get("usr"), told.get("pwd")) != (device.user, device.password):
        return Reply("Unauthorized", 401, "text/plain")
    outlet = int(told["index"])
    if outlet not in device.is_on:
        return Reply("", 400, "text/plain")
    if asked.method == "POST":
        device.switch(outlet, on=told["method"] == "on")
        return _page("", "application/xml")
    state = "ON" if device.is_on[outlet] else "OFF"
    return _page(f"<OutletRelay><{outlet:02d}>{state}</{outlet:02d}></OutletRelay>", "application/xml")


def tinycontrol(device: WebOutlets, asked: Asked) -> Reply:
    """Its LAN controllers and power sockets."""
    if asked.path == "/outs.cgi":
        for name, value in asked.query.items():
            if int(name.removeprefix("out")) in device.is_on:
                device.switch(int(name.removeprefix("out")), on=value == "1")
        return _page("Success!")
    if asked.path == "/st0.xml":
        outs = "".join(f"<out{n}>{int(on)}</out{n}>" for n, on in device.is_on.items())
        return _page(f"<response><hw>3.8</hw>{outs}</response>", "text/xml")
    return NOT_FOUND


def tinycontrol_tcpdu(device: WebOutlets, asked: Asked) -> Reply:
    """Its power strips."""
    if asked.path == "/api/v1/save/":
        for name, value in asked.query.items():
            if int(name.removeprefix("out")) in device.is_on:
                device.switch(int(name.removeprefix("out")), on=value == "1")
        return _json({})
    if asked.path == "/api/v1/read/status/" and asked.target.endswith("?outValues"):
        return _json({f"out{n}": int(on) for n, on in device.is_on.items()})
    return NOT_FOUND


def eth008(device: WebOutlets, asked: Asked) -> Reply:
    """A board with relays, which answers with all of them."""
    if asked.path != "/io.cgi":
        return NOT_FOUND
    if (found := re.search(r"\?DO([AI])(\d+)$", asked.target)) and int(found[2]) in device.is_on:
        device.switch(int(found[2]), on=found[1] == "A")
    return _page("Status: " + "".join(map(str, _ones(device))), "text/plain")


def mfi(device: WebOutlets, asked: Asked) -> Reply:
    """A page that lets a cookie in."""
    cookie = asked.headers.get("cookie", "")
    if asked.path == "/login.cgi":
        told = _form(asked.body)
        if re.fullmatch(r"AIROS_SESSIONID=\d{32}", cookie) and (told["username"], told["password"]) == (
            device.user,
            device.password,
        ):
            device.session = cookie
            return Reply("", 302, "text/html", (("Location", "/power"),))
        return _page("<html>Invalid credentials.</html>")
    if device.session is None or cookie != device.session:
        return Reply("", 302, "text/html", (("Location", f"/login.cgi?uri={asked.path}"),))
    if asked.path == "/logout.cgi":
        device.session = None
        return Reply("", 302, "text/html", (("Location", "/login.cgi"),))
    if asked.method == "PUT" and (found := re.fullmatch(r"/sensors/(\d+)/", asked.path)):
        if int(found[1]) in device.is_on:
            device.switch(int(found[1]), on=asked.body == "output=1")
        return _json({"status": "success"})
    if asked.path == "/mfi/sensors.cgi":
        sensors = [
            {
                "port": n,
                "output": int(on),
                "power": device.watts,
                "energy": 0.0,
                "current": 0.13,
                "voltage": 231.5,
            }
            for n, on in device.is_on.items()
        ]
        return _json({"sensors": sensors, "status": "success"})
    return NOT_FOUND


def digipower(device: WebOutlets, asked: Asked) -> Reply:
    """Masks of 24 outlets; their states are from the tenth field on."""
    if asked.path in ("/ons.cgi", "/offs.cgi"):
        assert len(asked.query["led"]) == 24
        for index, one in enumerate(asked.query["led"]):
            if one == "1" and index + 1 in device.is_on:
                device.switch(index + 1, on=asked.path == "/ons.cgi")
        return _page("")
    if asked.path == "/status.xml":
        return _page(
            f"<response><pot0>{','.join(['0'] * 10)},{','.join(map(str, _ones(device)))},0,</pot0></response>",
            "text/xml",
        )
    return NOT_FOUND


BRANDS: dict[str, tuple[Model, str, str]] = {
    # What answers, how its outlets are named, and how a password is said.
    "esphome": (esphome, "relay_{}", "digest"),
    "home-assistant": (home_assistant, "switch.board_{}", "bearer"),
    "netio": (netio, "{}", "basic"),
    "energenie": (energenie, "{}", "form"),
    "gude": (gude, "{}", "basic"),
    "gude-old": (gude_old, "{}", "basic"),
    "digital-loggers": (digital_loggers, "{}", "basic"),
    "digital-loggers-rest": (digital_loggers_rest, "{}", "digest"),
    "openwrt-poe": (openwrt_poe, "lan{}", ""),
    "aten": (aten, "{}", "form"),
    "tinycontrol": (tinycontrol, "{}", "basic"),
    "tinycontrol-tcpdu": (tinycontrol_tcpdu, "{}", "basic"),
    "eth008": (eth008, "{}", "basic"),
    "mfi": (mfi, "{}", "form"),
    "digipower": (digipower, "{}", "basic"),
}
"""By the names of `http_power.device_table`."""
