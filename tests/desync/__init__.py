"""The desync payloads: messages that make proxies disagree about where a message ends, and a control group.

flyby stands between a hostile client, or a hostile origin, and a strict upstream. Each payload is played on a
connection of its own; then a victim, on a fresh connection, must get the answer to its own request and no other. What
reached the upstream, what came back and what the victim got make the verdict. Every payload is played whole and one
byte at a time.

    payloads.py   what is sent and what is expected of it (payloads.json)
    upstream.py   the strict upstream, and the parser that it is strict with
    client.py     one exchange with the proxy, and the responses found in the bytes that came back
    play.py       a payload, its victim and the verdict; many payloads over a few lanes
    __main__.py   `python -m tests.desync`: the same as a table
"""
