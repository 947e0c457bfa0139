"""Whether a content is worth packing before it is stored, told by its fields: not what is packed already.

Images, sound, film and archives are compressed by their format (a few formats of images are not), and what has a
Content-Encoding by that (RFC 9110 8.4). To try them would cost a millisecond and save nothing. What tells nothing of
itself is tried: the store looks at its beginning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flyby.wire import Fields

_PACKED = re.compile(
    rb"image/(?!svg\+xml|bmp|x-ms-bmp|x-icon|vnd\.microsoft\.icon|x-portable-)|video/|audio/(?!x-wav|wav|midi)"
    rb"|font/woff|application/(?:zip|gzip|x-gzip|zstd|x-7z-compressed|vnd\.rar|x-rar-compressed|x-bzip2?|x-xz|font-woff"
    rb"|pdf|ogg|java-archive|epub\+zip|vnd\.android\.package-archive|vnd\.openxmlformats-|vnd\.oasis\.opendocument\.)",
    re.IGNORECASE,
)
_PLAIN = re.compile(rb"(?:identity)?\Z", re.IGNORECASE)


def worth_packing(fields: Fields) -> bool:
    """False for what is in a packed form already."""
    coding, media_type = fields.get(b"content-encoding"), fields.get(b"content-type")
    return (coding is None or _PLAIN.match(coding) is not None) and (
        media_type is None or _PACKED.match(media_type) is None
    )
