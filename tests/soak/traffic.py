"""The kinds of traffic of a soak. Each is one short play of some clients; the table says how often it is played.

A play ends by itself within seconds. What a client asks for after which it stays is compared with the origin's content;
one that leaves is not owed anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable

from tests.e2e.stage import Client, Message, read_body, read_head
from tests.soak.town import BROKEN_AT, HOST, Town, content

Play = Callable[[Town], Awaitable[None]]

HUNG_S = 30.0
GONE = (ConnectionError, asyncio.IncompleteReadError)


def request(path: str, *lines: str, method: str = "GET", body: bytes = b"") -> bytes:
    fields = [f"Host: {HOST}", *lines]
    if method == "POST" and not any(line.startswith(("Transfer-Encoding", "Content-Length")) for line in lines):
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"{method} {path} HTTP/1.1", *fields, "", ""]).encode() + body


async def asked(client: Client, path: str, *lines: str) -> Message:
    await client.send(request(path, *lines))
    return await client.response()


async def hits(town: Town) -> None:
    async with town.client() as client:
        for _ in range(10):
            kind = town.random.choice(("small", "text", "noise", "large"))
            path = f"/{kind}/{int(20 * town.random.random() ** 2)}"
            town.compare(path, await asked(client, path), content(path))


async def pipelined(town: Town) -> None:
    path = "/small/1"
    async with town.client() as client:
        await client.send(request(path) * 20)
        for _ in range(20):
            town.compare(f"{path} pipelined", await client.response(), content(path))


async def misses(town: Town) -> None:
    async with town.client() as client:
        for kind in ("pass", "private", "small", "text"):
            path = f"/{kind}/n{town.new()}"
            town.compare(path, await asked(client, path), content(path))


async def validations(town: Town) -> None:
    path = f"/validate/{town.random.randrange(10)}"
    async with town.client() as client:
        town.compare(path, await asked(client, path), content(path))
        response = await asked(client, path, f'If-None-Match: "{path}"')
        town.compare(f"{path} unmodified", response, b"", status=304)


async def ranges(town: Town) -> None:
    path = f"/{town.random.choice(('text', 'noise', 'large'))}/{town.random.randrange(10)}"
    whole = content(path)
    first = town.random.randrange(len(whole) - 100)
    last = first + town.random.randrange(100)
    async with town.client() as client:
        response = await asked(client, path, f"Range: bytes={first}-{last}")
        part = response.status == 206  # an origin without ranges may be read whole for the first one
        town.compare(f"{path} part", response, whole[first : last + 1] if part else whole, status=206 if part else 200)


async def posts(town: Town) -> None:
    body = hashlib.shake_128(str(town.new()).encode()).digest(town.random.choice((0, 200, 20_000, 300_000)))
    digest = hashlib.sha256(body).hexdigest().encode()
    async with town.client() as client:
        await client.send(request("/form", method="POST", body=body))
        town.compare("POST", await client.response("POST"), digest)
        await client.send(request("/form", "Transfer-Encoding: chunked", method="POST"))
        for start in range(0, len(body), 50_000):
            piece = body[start : start + 50_000]
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
        town.compare("POST, chunked", await client.response("POST"), digest)


async def early(town: Town) -> None:
    async with town.client() as client:
        await client.send(request("/early", method="POST", body=b"x" * 200))
        town.compare("POST, answered early", await client.response("POST"), b"ok")


async def slow_upload(town: Town) -> None:
    body = b"y" * 10
    async with town.client() as client:
        await client.send(request("/form", f"Content-Length: {len(body)}", method="POST"))
        for octet in body:
            await client.send(bytes([octet]))
            await asyncio.sleep(0.2)
        town.compare("POST, slow", await client.response("POST"), hashlib.sha256(body).hexdigest().encode())


async def leave(town: Town, client: Client) -> None:
    """By FIN or by RST."""
    if town.random.random() < 0.5:
        client.reset()


async def half_closed(town: Town) -> None:
    """A client that says at once that it will send nothing more, and waits."""
    path = f"/late/n{town.new()}"
    async with town.client(secure=False) as client:
        await client.send(request(path))
        client.writer.write_eof()
        town.compare(f"{path}, half closed", await client.response(), content(path))


async def leave_before_the_head(town: Town) -> None:
    """Of a response that ends, or of a stream that does not."""
    async with town.client() as client:
        await client.send(request(f"/{town.random.choice(('late', 'later'))}/n{town.new()}"))
        await asyncio.sleep(0.1)
        await leave(town, client)


async def leave_a_stream(town: Town) -> None:
    async with town.client() as client:
        await client.send(request(f"/stream/n{town.new()}"))
        with contextlib.suppress(*GONE):
            await client.reader.readexactly(1000)
        await leave(town, client)


async def leave_a_download(town: Town) -> None:
    kind = town.random.choice(("huge", "large", "slow"))
    async with town.client() as client:
        await client.send(request(f"/{kind}/n{town.new()}"))
        with contextlib.suppress(*GONE):
            await client.reader.readexactly(2000)
        await leave(town, client)


async def leave_an_upload(town: Town) -> None:
    async with town.client() as client:
        await client.send(request("/form", "Content-Length: 1000000", method="POST") + b"z" * 10_000)
        await asyncio.sleep(0.1)
        await leave(town, client)


async def slow_readers(town: Town) -> None:
    """Twice: of what is stored, and of what is being fetched."""
    for path in ("/huge/1", f"/huge/n{town.new()}"):
        async with town.client() as client:
            await client.send(request(path))
            head = await read_head(client.reader)
            received = b""
            for _ in range(20):
                received += await client.reader.read(32_768)
                await asyncio.sleep(0.1)
            if head.status != 200 or not content(path).startswith(received):
                town.wrong.append(f"{path}, read slowly: {head.start}, or other bytes")
            await leave(town, client)


async def followers(town: Town) -> None:
    """A crowd for something slow and new; some of it leaves, the one that came first among them, now and then."""
    path = f"/slow/n{town.new()}"
    leaving = {town.random.randrange(15) for _ in range(3)}

    async def one(number: int) -> None:
        async with town.client() as client:
            await client.send(request(path))
            if number in leaving:
                await asyncio.sleep(0.1 * town.random.random())
                await leave(town, client)
            else:
                town.compare(f"{path}, followed", await client.response(), content(path))

    async with asyncio.TaskGroup() as group:
        for number in range(15):
            group.create_task(one(number))


async def broken(town: Town) -> None:
    path = f"/broken/n{town.new()}"
    async with town.client() as client:
        await client.send(request(path))
        try:
            head = await read_head(client.reader)
            await read_body(client.reader, head)
        except GONE:
            return
        if head.status == 200 and (head.complete or not content(path).startswith(head.body)):
            town.wrong.append(f"{path}: {len(head.body)} bytes, of {BROKEN_AT}, and a clean end")


async def purges(town: Town) -> None:
    path = f"/text/{town.random.randrange(20)}"
    async with town.client(secure=False) as client:
        await client.send(request(path, method="PURGE"))
        response = await client.response()
        if response.status not in (200, 404):
            town.wrong.append(f"PURGE: {response.start}")


# The seconds between the beginnings of two plays.
TRAFFIC: dict[Play, float] = {
    hits: 0.1,
    pipelined: 0.5,
    misses: 0.2,
    validations: 0.3,
    ranges: 0.2,
    posts: 0.5,
    early: 0.5,
    slow_upload: 1.0,
    half_closed: 1.0,
    leave_before_the_head: 0.5,
    leave_a_stream: 0.5,
    leave_a_download: 0.5,
    leave_an_upload: 0.5,
    slow_readers: 2.0,
    followers: 2.0,
    broken: 1.0,
    purges: 1.0,
}


async def repeat(town: Town, play: Play, every_s: float, until: float) -> None:
    """Play it at its rate until then; as many at a time as that takes, but never more than a few."""
    clock = asyncio.get_running_loop().time
    places = asyncio.Semaphore(8)

    async def once() -> None:
        try:
            async with asyncio.timeout(HUNG_S):
                await play(town)
            town.played[play.__name__] += 1
        except TimeoutError:
            town.wrong.append(f"{play.__name__}: not ended after {HUNG_S:.0f} s")
        except GONE as error:
            town.wrong.append(f"{play.__name__}: {error!r}")
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        while clock() < until:
            await places.acquire()
            group.create_task(once())
            await asyncio.sleep(every_s)


async def play(town: Town, seconds: float, plays: dict[Play, float]) -> None:
    """All of it at once, for so long."""
    until = asyncio.get_running_loop().time() + seconds
    async with asyncio.TaskGroup() as group:
        for each, every_s in plays.items():
            group.create_task(repeat(town, each, every_s, until))
