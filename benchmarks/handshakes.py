"""`python handshakes.py PORT SECONDS full|resumed PATH`: a connection, a TLS handshake, one request, and the close.

Eight threads, each with one connection at a time. `resumed` presents the ticket of an earlier connection (RFC 8446 2.2)
and counts a connection that was not resumed as an error, `full` presents none. Prints what load.c prints: requests,
errors, seconds, and the 50th, 99th and 99.9th percentile in µs. Only the server's CPU time is measured, so this client
may cost what it likes.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time

THREADS = 8
TIMEOUT_S = 10.0


class Churn:
    """What all threads do, and what came of it."""

    def __init__(self, port: int, seconds: float, resumed: bool, path: str) -> None:
        self._address = ("127.0.0.1", port)
        self._until = time.monotonic() + seconds
        self._resumed = resumed
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        self._lock = threading.Lock()
        self.took_us: list[int] = []
        self.errors = 0

    def run(self) -> None:
        """One thread: until the time is over."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        took_us: list[int] = []
        errors = 0
        session = self._once(context, None)[1] if self._resumed else None
        while (began := time.monotonic()) < self._until:
            try:
                right, _ = self._once(context, session)
            except OSError:
                right = False
            errors += not right
            took_us.append(round((time.monotonic() - began) * 1e6))
        with self._lock:
            self.took_us += took_us
            self.errors += errors

    def _once(self, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        """Whether all went as it should, and the session that a later connection may resume."""
        with (
            socket.create_connection(self._address, TIMEOUT_S) as plain,
            context.wrap_socket(plain, session=session) as connection,
        ):
            connection.sendall(self._request)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            right = answer.startswith(b"HTTP/1.1 200 ") and bool(connection.session_reused) is (session is not None)
            return right, connection.session


def main(port: int, seconds: float, kind: str, path: str) -> None:
    churn = Churn(port, seconds, kind == "resumed", path)
    began = time.monotonic()
    threads = [threading.Thread(target=churn.run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_us = sorted(churn.took_us)
    marks = [took_us[int(len(took_us) * share)] for share in (0.5, 0.99, 0.999)] if took_us else [0, 0, 0]
    print(len(took_us), churn.errors, f"{time.monotonic() - began:.6f}", *marks)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4])
