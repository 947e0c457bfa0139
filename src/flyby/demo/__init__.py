"""The built-in origin: what `flyby serve` fronts when no origin is named, so that the cache can be seen at work.

`Demo.open()` takes a free loopback port in the supervisor, before anything is forked; `serve()` is the body of the
demo's own process, and stays on that port over a restart. The app knows nothing of flyby: it is an ordinary HTTP/1.1
origin that happens to say interesting things in Cache-Control.
"""

from __future__ import annotations

import socket


class Demo:
    """The app's socket, and where it is."""

    __slots__ = ("listener", "origin")

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        host, port = listener.getsockname()
        self.origin = f"http://{host}:{port}"

    @classmethod
    def open(cls) -> Demo:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
        listener.setblocking(False)
        return cls(listener)

    def serve(self) -> int:
        """Serve until TERM; the process's exit code."""
        from flyby.demo.process import serve

        return serve(self.listener)

    def close(self) -> None:
        self.listener.close()
