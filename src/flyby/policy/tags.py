"""The tags of a response: names of what it was made from, by which whoever changes that can purge it.

Two fields carry them, and a response may have both:

    Surrogate-Key = *WS [ tag *( 1*WS tag ) ] *WS                 tag = 1*tag-byte
    Cache-Tag     = *SEP [ label *( 1*SEP label ) ] *SEP          label = 1*( tag-byte except "," )
    tag-byte      = %x21-7E / %x80-FF       WS = SP / HTAB        SEP = WS / ","

Tags are bytes: compared byte for byte, case and all, never decoded. Field lines are combined first (RFC 9110 5.2), so
Surrogate-Key keeps a comma within a line as part of the tag; lines are therefore split one by one there. Order and
repetition mean nothing. A response with more tags than MAX_TAGS, or one longer than MAX_TAG, cannot be found by all of
its names, so it is not stored at all: better no copy than one that no purge reaches.
"""

from __future__ import annotations

import re

from flyby.wire import Fields

MAX_TAGS = 128  # of one response
MAX_TAG = 1024  # bytes of one tag
TAG_FIELDS = frozenset((b"surrogate-key", b"cache-tag"))

_TAG = re.compile(rb"[!-~\x80-\xff]+")
_LABEL = re.compile(rb"[!-+\--~\x80-\xff]+")


def response_tags(fields: Fields) -> tuple[bytes, ...] | None:
    """The tags of a response, each once, in the order of their first mention; None when they pass the limits."""
    found: dict[bytes, None] = {}
    for name, pattern in ((b"surrogate-key", _TAG), (b"cache-tag", _LABEL)):
        for line in fields.get_all(name):
            for tag in pattern.findall(line):
                found[tag] = None
    return checked_tags(found)


def checked_tags(tags: dict[bytes, None]) -> tuple[bytes, ...] | None:
    """Those tags, unless there are too many of them or one is too long."""
    if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
        return None
    return tuple(tags)


def named_tags(value: bytes) -> tuple[bytes, ...] | None:
    """The tags that a purge names, by the grammar of Surrogate-Key; None when they pass the limits."""
    return checked_tags(dict.fromkeys(_TAG.findall(value)))


def is_tag(tag: bytes) -> bool:
    """Whether these bytes are one tag that can be given in Surrogate-Key."""
    return len(tag) <= MAX_TAG and _TAG.fullmatch(tag) is not None
