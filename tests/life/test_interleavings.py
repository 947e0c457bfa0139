"""Whatever happens in whatever order: nothing is held at the end, every byte is right, each request has one record.

A seed chooses what everybody does. The origin answers, stalls, drips, breaks off, resets, sends more than it said, or
answers before it has read. Clients read, read slowly, leave by FIN or by reset, send their content in parts. Another
worker's fetches and followers are played by handles on the store. Meanwhile the cache is purged, and the configuration
reloaded. What a failure says begins with its seed: `play_of(seed)` plays it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import struct
from collections import Counter
from socket import SO_LINGER, SOL_SOCKET

import pytest

from flyby.config import Config
from tests.e2e.stage import Client, Message, Origin, play
from tests.life.stage import Life, chunk, life, unchunked, until

SEEDS = range(16)
REQUESTS = 30
SIZES = (0, 1, 500, 20_000, 90_000, 400_000)  # the last outgrows the store
TIMES = {"half_closed_s": 0.05, "write_s": 0.6, "body_s": 0.6}
SETTINGS = {
    "timeouts": TIMES,
    "cache": {"size": "4MiB", "max_object": "128KiB", "collapse_wait_s": 0.1},
    "pool": {"max_connections": 5, "early": 2, "wait_s": 0.5},
    "backend": {"first_byte_s": 0.3, "between_bytes_s": 0.3},
}
FRESHNESS = {
    "stored": "Cache-Control: max-age=60\r\n",
    "stale": "Cache-Control: max-age=0, stale-while-revalidate=60, stale-if-error=60\r\n",
    "checked": 'Cache-Control: no-cache\r\nETag: "one"\r\n',
    "varied": "Cache-Control: max-age=60\r\nVary: X-Kind\r\n",
    "passed": "Cache-Control: no-store\r\n",
}


def content_of(path: str) -> bytes:
    """What lies under a path, for ever."""
    size = int(path.split("?")[0].rsplit("-", 1)[1])
    return random.Random(path.split("?")[0]).randbytes(size)


class Moods:
    """An origin's script, moody by the seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def __call__(self, origin: Origin, request: Message, writer: asyncio.StreamWriter) -> None:
        # uvloop raises RuntimeError for a write to a transport that has closed itself.
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.answer(request, writer)

    async def answer(self, request: Message, writer: asyncio.StreamWriter) -> None:
        rng = self.random
        mood = rng.choices(("well", "stall", "silent", "close", "reset", "break", "drip", "surplus", "fail", "last"),
                           (10, 2, 1, 1, 1, 2, 2, 1, 1, 1))[0]  # fmt: skip
        if mood == "stall":
            await asyncio.sleep(rng.uniform(0.02, 0.25))
        elif mood == "silent":
            await asyncio.sleep(0.5)
        if rng.random() < 0.1:
            writer.write(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n")
            await asyncio.sleep(0.01)
        if mood == "reset":
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        if mood in ("close", "reset"):
            writer.close()
            return
        if mood == "fail":
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno")
            return
        fields = FRESHNESS[request.target.split("-")[0][1:]]
        if request.get("if-none-match") == '"one"' and "ETag" in fields and rng.random() < 0.7:
            writer.write(f"HTTP/1.1 304 Same\r\n{fields}\r\n".encode())
            return
        content = content_of(request.target)
        chunked = rng.random() < 0.5
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
        writer.write(f"HTTP/1.1 200 OK\r\n{fields}{framing}\r\n\r\n".encode())
        if request.method == "HEAD":
            return
        step = max(1, rng.choice((len(content), len(content) // 3, 16_384)))
        stop = rng.randrange(len(content) + 1) if mood == "break" else -1
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(content), step):
                if 0 <= stop <= at:
                    writer.close()
                    return
                piece = content[at : at + step]
                writer.write(chunk(piece) if chunked else piece)
                await writer.drain()
                # What is sent too late to be seen before the next request cannot be told from its response.
                if at + step < len(content) and (mood == "drip" or rng.random() < 0.2):
                    await asyncio.sleep(0.002)
            if stop >= 0:
                writer.close()
                return
            writer.write(b"0\r\n\r\n" if chunked else b"")
            if mood == "surplus":
                writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 6\r\n\r\npoison")
            if mood == "last":
                await writer.drain()
                writer.close()


class Crowd:
    """Those who ask, and what they were told."""

    def __init__(self, scene: Life, seed: int) -> None:
        self.scene = scene
        self.seed = seed
        self.random = random.Random(-seed - 1)
        self.paths = [f"/{kind}-{size}" for kind in FRESHNESS for size in self.random.sample(SIZES, 2)]
        self.faults: list[str] = []
        self.answered: set[bytes] = set()

    async def one(self, number: int) -> None:
        """A request, from its head to the last that its client wants of it."""
        rng = random.Random(self.seed * 1000 + number)
        path = rng.choice(self.paths)
        method = rng.choices(("GET", "POST", "HEAD"), (8, 3, 1))[0]
        version = rng.choices(("1.1", "1.0"), (5, 1))[0]
        manner = rng.choices(("read", "slow", "reset", "end", "half", "bytes"), (8, 2, 2, 1, 2, 2))[0]
        lines = [f"User-Agent: {self.seed}-{number}", f"X-Kind: {rng.randrange(2)}"]
        if rng.random() < 0.2:
            lines.append('If-None-Match: "another"')
        content = rng.randbytes(rng.choice((0, 5, 70_000, 200_000))) if method == "POST" else b""
        if method == "POST":
            lines.append(f"Content-Length: {len(content)}")
        cut = rng.choice((len(content), len(content), len(content) // 2))
        client = await self.scene.send(path, method, *lines, version=version, content=content[:cut])
        if manner == "slow":
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(rng.choice((0, 0, 0.01, 0.1)))
        with contextlib.suppress(ConnectionError, RuntimeError):
            await client.send(content[cut:])
            if manner == "half":
                client.writer.write_eof()
            elif manner == "slow":
                await asyncio.sleep(rng.uniform(0, 0.2))
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            elif manner == "bytes":
                await client.reader.read(rng.randrange(1, 50_000))
            if manner in ("reset", "bytes"):
                client.reset()
            elif manner == "end":
                client.writer.close()
            else:
                await self.hear(client, path, method, version, lines[0][12:].encode())

    async def hear(self, client: Client, path: str, method: str, version: str, identity: bytes) -> None:
        """Read a response to its end, and look at it."""
        data = b""
        ended = b"FIN"
        try:
            while not self.whole(data, method):
                more = await asyncio.wait_for(client.reader.read(1 << 20), 4)
                if not more:
                    break
                data += more
        except ConnectionResetError:
            ended = b"RST"
        except TimeoutError:
            self.faults.append(f"{identity!r}: no end of the response to {method} {path} after {data[:100]!r}")
            return
        data = re.sub(rb"^(HTTP/1.1 1\d\d .*?\r\n\r\n)+", b"", data, flags=re.DOTALL)
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            return
        self.answered.add(identity)
        status = head[9:12]
        complete = self.whole(data, method) or (version == "1.0" and ended == b"FIN")
        if b"chunked" in head:
            body, complete = unchunked(body)
        wanted = content_of(path)
        if status in (b"502", b"503", b"504", b"400", b"408"):
            return
        if status != b"200":
            self.faults.append(f"{identity!r}: {head!r}")
        elif method == "HEAD" and body:
            self.faults.append(f"{identity!r}: {len(body)} bytes to a HEAD")
        elif method != "HEAD" and (not wanted.startswith(body) or (complete and body != wanted)):
            self.faults.append(
                f"{identity!r}: {len(body)} bytes of {len(wanted)} that are not those of {path}, {head!r}"
            )

    @staticmethod
    def whole(data: bytes, method: str) -> bool:
        """Whether a response says that it is complete."""
        data = re.sub(rb"^(HTTP/1.1 1\d\d .*?\r\n\r\n)+", b"", data, flags=re.DOTALL)
        head, found, body = data.partition(b"\r\n\r\n")
        if not found:
            return False
        if method == "HEAD" or head[9:12] == b"304":
            return True
        if b"chunked" in head:
            return body.endswith(b"0\r\n\r\n") and unchunked(body)[1]
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return length is not None and len(body) >= int(length[1])

    async def elsewhere(self) -> None:
        """Another worker's part in a fetch: it follows one that is under way, or owns one and is lost."""
        store = self.scene.edge._store
        assert store is not None
        fill = store.claim(f"http shop.test {self.random.choice(self.paths)}\0app".encode())
        if fill is None:
            return
        offset = 0
        for _ in range(self.random.randrange(20)):
            await asyncio.sleep(0.005)
            if not fill.owner:
                offset += len(fill.read(offset, 30_000))
        fill.release()

    async def meanwhile(self, config: Config) -> None:
        """What the operator does."""
        edge = self.scene.edge
        deed = self.random.choice(("purge", "soften", "reload", "elsewhere", "elsewhere", "nothing"))
        if deed in ("purge", "soften"):
            edge.purge_all(soft=deed == "soften")
        elif deed == "reload":
            await edge.reload(config)
        elif deed == "elsewhere":
            await self.elsewhere()


async def play_of(seed: int) -> None:
    """Play what the seed says. Raises when something is held, wrong, or not recorded once."""
    async with life(Moods(seed), **{name: dict(value) for name, value in SETTINGS.items()}) as scene:
        crowd = Crowd(scene, seed)
        config = scene.edge._config
        running: set[asyncio.Task[None]] = set()
        for number in range(REQUESTS):
            running.add(asyncio.create_task(crowd.one(number)))
            if crowd.random.random() < 0.3:
                running.add(asyncio.create_task(crowd.meanwhile(config)))
            await asyncio.sleep(crowd.random.choice((0, 0, 0.002, 0.02)))
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        faults = crowd.faults + [repr(each) for each in outcomes if isinstance(each, BaseException)]
        for client in scene.clients:
            client.writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            await until(lambda: not scene.left(), 2)
        recorded = Counter(record.user_agent for record in scene.records)
        faults += [f"{identity!r} is recorded {count} times" for identity, count in recorded.items() if count > 1]
        faults += [f"{identity!r} is not recorded" for identity in crowd.answered - set(recorded)]
        if scene.left():
            faults.append(f"left: {scene.left()}")
        scene.asked = len(scene.records)  # a reset may have come before the request was read
        assert faults == [], f"seed {seed}: {faults}"


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_and_every_byte_is_right(seed: int) -> None:
    @play
    async def story() -> None:
        await play_of(seed)

    story()
