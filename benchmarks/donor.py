"""`python donor.py PORT ORIGIN`: the least that a dyno's agent can be, for what a tunnel costs the edge.

Reads the token from standard input, registers with the worker that listens on PORT, answers its heartbeats, and dials
links when it is asked to. Each link, once its handshake is over, is handed to the origin itself (`floor.c` on port
ORIGIN): what the edge sends on it, the origin reads, as on a connection that the edge has dialled. So a tunnel is
measured against the same origin, with nobody in between.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time

CAPACITY = 256
PATIENCE = 50  # times 100 ms
LINKS = 80  # to begin with: more than the connections of the load


def handshake(port: int, role: str, key: str, token: str) -> socket.socket:
    """A connection after its 101; nothing behind the head has been read."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(
        f"GET /.flyby/tunnel HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: flyby-tunnel/1\r\n"
        f"Authorization: Bearer {token}\r\nFlyby-Role: {role}\r\nFlyby-Dyno: {key}\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = connection.recv(1)
        if not octet:
            raise ConnectionError(f"the edge closed a handshake: {head!r}")
        head += octet
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise ConnectionError(f"no tunnel: {head.decode('latin-1')}")
    return connection


def register(port: int, key: str, token: str) -> socket.socket:
    """The control connection. An edge that has only just been given its first token says 503 until it has read it."""
    for _ in range(PATIENCE):
        try:
            return handshake(port, "control", key, token)
        except ConnectionError as error:
            if " 503 " not in str(error):
                raise
            time.sleep(0.1)
    return handshake(port, "control", key, token)


def donate(port: int, key: str, token: str, links: int, origin: int) -> None:
    """Dial `links` links for the origin."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as handing:
        handing.connect(f"\0flyby-floor-{origin}")
        for _ in range(links):
            with handshake(port, "link", key, token) as link:
                socket.send_fds(handing, [b"l"], [link.fileno()])


def main(port: int, origin: int) -> None:
    token = sys.stdin.readline().strip()
    key = secrets.token_hex(16)
    with register(port, key, token) as control, control.makefile("rb") as lines:

        def say(**message: object) -> None:
            control.sendall(json.dumps(message).encode() + b"\n")

        say(type="register", protocol=1, dyno="bench.1", capacity=CAPACITY, ready=True)
        for line in lines:
            message = json.loads(line)
            if message["type"] == "registered":
                donate(port, key, token, LINKS, origin)
                print("ready", flush=True)
            elif message["type"] == "ping":
                say(type="pong", n=message["n"])
            elif message["type"] == "spare":
                donate(port, key, token, message["links"], origin)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
