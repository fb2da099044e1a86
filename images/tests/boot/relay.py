"""``relay.py PORT``: standard input and output become a TCP connection to a port of this computer's loopback.

QEMU starts one for each connection of a guest (``guestfwd=...-cmd:``).
"""

import os
import select
import socket
import sys

peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
ends = {0: peer.fileno(), peer.fileno(): 1}
# QEMU gives one socket as both.
while ends:
    for end in select.select(list(ends), [], [])[0]:
        try:
            data = os.read(end, 65536)
        except ConnectionError:
            data = b""
        if not data:
            sys.exit()
        target = ends[end]
        while data:
            data = data[os.write(target, data) :]
