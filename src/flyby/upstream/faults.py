"""What can go wrong on an open connection to an origin, in the words of RFC 9209 2.3, with the status each deserves."""

from __future__ import annotations

from flyby.errors import Retry, UpstreamError, WireError

TOO_LARGE = frozenset(("too-many-fields", "fields-too-large"))  # `WireError.reason`s of the limits on fields


def terminated(detail: str, retry: Retry = Retry.NEVER) -> UpstreamError:
    """The connection is gone."""
    return UpstreamError(502, "terminated", "connection_terminated", detail, retry)


def unanswered(kept: bool) -> UpstreamError:
    """The stream ended before the first byte of a response.

    RFC 9112 9.3.1: a kept connection that closes as we send was closed before the request arrived, most likely.
    """
    retry = Retry.IF_REUSED if kept else Retry.NEVER
    return terminated("the origin closed the connection without an answer", retry)


def given_up() -> UpstreamError:
    """A 408 on a kept connection: the origin was about to close it when the request was sent (RFC 9110 15.5.9)."""
    detail = "the origin gave up waiting for a request as this one was sent (408)"
    return terminated(detail, Retry.IF_REUSED)


def incomplete() -> UpstreamError:
    """The stream ended inside a response."""
    detail = "the origin broke off before the response was complete"
    return UpstreamError(502, "incomplete", "http_response_incomplete", detail)


def malformed(detail: str, proxy_error: str = "http_protocol_error") -> UpstreamError:
    """What came is no response."""
    return UpstreamError(502, "malformed", proxy_error, f"the origin's response is malformed: {detail}")


def malformed_head(error: WireError) -> UpstreamError:
    """The head is none, or is larger than allowed."""
    large = error.reason in TOO_LARGE
    return malformed(error.detail, "http_response_header_section_size" if large else "http_protocol_error")


def malformed_content(error: WireError) -> UpstreamError:
    """The chunks or the trailers are none, or the trailers are larger than allowed."""
    large = error.reason in TOO_LARGE
    return malformed(error.detail, "http_response_trailer_section_size" if large else "http_protocol_error")


def not_answered_in_time() -> UpstreamError:
    """No head of a response within the limit."""
    return UpstreamError(504, "first-byte-timeout", "http_response_timeout", "the origin did not answer in time")


def silent() -> UpstreamError:
    """The response has begun, and then nothing came for too long."""
    return UpstreamError(504, "between-bytes-timeout", "connection_read_timeout", "the origin stopped answering")


def not_taken() -> UpstreamError:
    """The origin does not read the request's content."""
    return UpstreamError(504, "write-timeout", "connection_write_timeout", "the origin stopped reading the request")
