"""The edge of a soak: `python -m tests.soak.edge ORIGIN-PORT CERTIFICATE KEY`.

Says its two ports in one line (plain, TLS), then answers each line on its standard input with one of JSON: `holdings`
with what it holds, `purge` with how many objects that took. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

import uvloop

from flyby import Backend, Config, Edge, Route, Server
from flyby.config import Cache, Certificate, Pool, Purge, Timeouts
from tests.soak.holdings import Holdings


def configured(origin: int, certificate: str, key: str) -> Config:
    """Small and short enough that what runs full or out does so within seconds."""
    return Config(
        server=Server(
            listen=["127.0.0.1:0", "https://127.0.0.1:0"],
            tls=[Certificate(certificate=certificate, key=key)],
            timeouts=Timeouts(idle_s=5, drain_s=0.1),
            purge=Purge(allow=["127.0.0.1"]),
        ),
        cache=Cache(size="32MiB"),
        backends={
            "app": Backend(
                origins=[f"http://127.0.0.1:{origin}"],
                pool=Pool(max_connections=256, idle_s=2),
                first_byte_s=20,
                between_bytes_s=20,
            )
        },
        routes=[Route(backend="app")],
    )


def holdings(edge: Edge) -> Holdings:
    """What the edge holds now, and not what Python or the C library keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    seen = edge.statistics()
    assert seen.store is not None
    origins = [origin for backend in seen.backends.values() for origin in backend.origins]
    anonymous = re.search(r"Pss_Anon:\s+([0-9]+)", Path("/proc/self/smaps_rollup").read_text())
    threads = re.search(r"Threads:\s+([0-9]+)", Path("/proc/self/status").read_text())
    assert anonymous is not None
    assert threads is not None
    return Holdings(
        clients=seen.connections,
        buffered=seen.buffered,
        leased=sum(origin.leased for origin in origins),
        in_flight=sum(origin.in_flight for origin in origins),
        dialling=sum(origin.dialling for origin in origins),
        waiting=sum(origin.waiting for origin in origins),
        idle=sum(origin.idle for origin in origins),
        fills=seen.store.fills_open,
        loose=seen.store.loose,
        unused=seen.store.free + seen.store.index_bytes,
        tasks=len(asyncio.all_tasks()),
        threads=int(threads[1]),
        descriptors=len(os.listdir("/proc/self/fd")),
        memory_kib=int(anonymous[1]),
    )


async def main(origin: int, certificate: str, key: str) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with Edge(configured(origin, certificate, key), access_log=lambda record: None) as edge:
        print(*(port for _, port in edge.addresses), flush=True)
        while order := (await orders.readline()).strip():
            answer = {"purged": edge.purge_all()} if order == b"purge" else asdict(holdings(edge))
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
