"""The pages that flyby answers with itself: small, designed, and plain where the client asks for no HTML.

Each names the status, one sentence of what happened, and the request id by which the operator finds it in the log.
Nothing of the request is echoed into a page.
"""

from __future__ import annotations

from flyby.errors import UpstreamError, WireError
from flyby.wire import REASONS, Fields, RequestHead

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{status} {reason}</title>
<style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;margin:0;
min-height:100vh;display:grid;place-items:center}}
main{{max-width:32rem;padding:2rem}}h1{{font-size:3.5rem;margin:0;letter-spacing:-.03em}}
h2{{margin:.2rem 0 1rem;font-weight:500}}
p{{margin:.4rem 0}}small{{opacity:.65;font-family:ui-monospace,monospace}}
</style></head>
<body><main><h1>{status}</h1><h2>{reason}</h2><p>{sentence}</p><p><small>{detail}</small></p></main></body></html>
"""

_SENTENCES = {
    400: "The request could not be understood.",
    403: "This is not allowed from here.",
    404: "No site is configured here under this name and path.",
    405: "This method is not offered here.",
    408: "The request took too long to arrive.",
    413: "The request's content is larger than this site takes.",
    414: "The address is longer than this site takes.",
    417: "The expectation in the request cannot be met.",
    421: "This connection is not meant for this host.",
    431: "The request's header fields are larger than this site takes.",
    500: "Something went wrong on the way.",
    501: "This method is not known here.",
    502: "The application behind this address gave no usable answer.",
    503: "The application behind this address is not reachable at the moment. Please try again shortly.",
    504: "The application behind this address did not answer in time.",
    505: "This version of HTTP is not spoken here.",
    508: "The request went round in a circle.",
}


def _wants_html(request: RequestHead | None) -> bool:
    if request is None:
        return False
    accept = request.fields.combined(b"accept")
    return accept is not None and b"text/html" in accept.lower()


def page(status: int, request: RequestHead | None, detail: str = "") -> tuple[Fields, bytes]:
    """Fields and content of the page for `status`: HTML if the request's Accept names it, else plain text."""
    reason = REASONS.get(status, b"Error").decode()
    sentence = _SENTENCES.get(status, "The request could not be served.")
    if _wants_html(request):
        text = _HTML.format(status=status, reason=reason, sentence=sentence, detail=detail)
        kind = b"text/html; charset=utf-8"
    else:
        text = f"{status} {reason}\n{sentence}\n" + (f"{detail}\n" if detail else "")
        kind = b"text/plain; charset=utf-8"
    return Fields([(b"Content-Type", kind), (b"Cache-Control", b"no-store")]), text.encode()


def client_error(error: WireError, request: RequestHead | None) -> tuple[int, Fields, bytes]:
    """The answer to a request that breaks the rules."""
    fields, content = page(error.status, request, error.detail)
    fields.set(b"Content-Length", b"%d" % len(content))
    return error.status, fields, content


def upstream_error(error: UpstreamError, request: RequestHead, identity: bytes) -> tuple[Fields, bytes]:
    """The answer when the origin has none, with Proxy-Status (RFC 9209)."""
    fields, content = page(error.status, request, "request " + identity.decode("ascii", "replace"))
    # RFC 9209 2.1: without details, which would name inside addresses; the log has them.
    fields.add(b"Proxy-Status", b"flyby; error=%s" % error.proxy_error.encode())
    if error.status == 503:
        fields.add(b"Retry-After", b"1")
    return fields, content
