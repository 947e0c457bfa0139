# cython: language_level=3
"""One request and its one response: what is known of it, and what becomes of it, recorded once.

An exchange does not know which version of HTTP brought it, nor where its response comes from: a `Source` (a fetch, or
the fetch of another that it follows) produces that, and is told when the client leaves. Answers of flyby's own, an
error among them, are made here and nowhere else. What is to be done with a request is `context.decide`'s to say.

A request that a glance recognised keeps the bytes that came; a `RequestHead` is made of them when somebody asks.
"""

import logging

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from flyby.errors import UpstreamError, WireError
from flyby.policy import Outcome, Reason
from flyby.proxy.road import replies
from flyby.proxy.road._identity import request_identity
from flyby.proxy.road.arrival import read_arrival
from flyby.proxy.road.recording import record
from flyby.proxy.road.source import Story
from flyby.wire import HeadReader as NewHeadReader

from flyby.proxy.road._downstream cimport Downstream, Occupant
from flyby.wire._glance cimport Glance
from flyby.wire._head cimport HeadReader, RequestHead

cdef object ERROR = Outcome.ERROR
cdef object LOCAL = Outcome.LOCAL
CLIENT_LEFT = 499  # the status in the log of a request whose client left before its response began

logger = logging.getLogger("flyby.proxy")


cdef class Exchange(Occupant):
    """The fate of one request."""

    def __cinit__(self, *args):
        self._identity = None
        self.path = self.primary = self.claim_key = self.own_lines = b""
        self.backend_name = ""
        self.since = 0
        self.extra_tags = ()
        self.outcome = ERROR
        self.first_byte_ms = -1

    def __init__(self, context, Downstream downstream, RequestHead request not None):
        self.context = context
        self.downstream = downstream
        self._request = request
        self.path = request.path
        self.started = context.clock.monotonic()

    def __repr__(self):
        request = self.request
        return f"<Exchange {request.method!r} {request.host!r} {request.path!r} {self.outcome.value}>"

    @property
    def request(self):
        """The request's head; made when it is asked for, of the bytes that came."""
        return self.head_of_request()

    cdef RequestHead head_of_request(self):
        if self._request is None:
            self._request = self.as_sent()
            read_arrival(self)
        return self._request

    cpdef RequestHead as_sent(self):
        """The head of a request that a glance recognised, with all that the client sent."""
        cdef HeadReader reader = NewHeadReader(self.context.config.server.limits, "request")
        reader._feed(<const unsigned char *>PyBytes_AS_STRING(self.text), PyBytes_GET_SIZE(self.text))
        return reader.take_request(b"https" if self.downstream.secure else b"http")

    @property
    def client(self):
        """Who asks; from when it is known, `request` is what the origin may see of what came."""
        self.head_of_request()
        if self._client is None:
            read_arrival(self)
        return self._client

    def arrived(self, client, RequestHead request not None):
        """Set who asks, and the request in the place of the one that came."""
        self._client, self._request = client, request

    @property
    def identity(self):
        """The id by which this request is known in logs here and in the dyno's."""
        if self._identity is None:
            self._identity = request_identity(self.head_of_request())
        return self._identity

    @property
    def scheme(self):
        return b"https" if self.downstream.secure else b"http"

    # ---- steps -------------------------------------------------------------------------------------------------------

    def start(self):
        """Decide, and answer at once where everything lies ready."""
        self.run_step(self.context.decide, self)

    def run_step(self, step, *given):
        """Call `step`; an error in it becomes the response."""
        try:
            step(*given)
        except WireError as error:
            self.refuse(error)
        except UpstreamError as error:
            self.fail(error)
        except Exception:
            self._broken()

    def run(self, story):
        """Let the coroutine `story` answer; an error in it becomes the response."""
        self.source = Story(self.context.spawn(self._told(story)))

    async def _told(self, story):
        try:
            await story
        except WireError as error:
            self.refuse(error)
        except UpstreamError as error:
            self.fail(error)
        except Exception:
            self._broken()

    def behind(self):
        """The same request once more, with no client that waits for its response and nothing to record."""
        cdef Exchange other = Exchange.__new__(Exchange)
        other.context, other.downstream, other._request = self.context, self.downstream, self.head_of_request()
        other._identity = self._identity
        other.started, other._client = self.started, self.client
        other.match, other.rules, other.backend_name = self.match, self.rules, self.backend_name
        other.seams = self.seams
        other.path, other.primary, other.claim_key = self.path, self.primary, self.claim_key
        other.gone = other._recorded = True
        return other

    def backend(self):
        """The backend that the route names."""
        return self.context.backends[self.backend_name]

    # ---- answers of our own ------------------------------------------------------------------------------------------

    def refuse(self, error):
        """Answer a request that is at fault with the error's page."""
        self.note(ERROR, None, error.status)
        self._send(*replies.refusal(error, self.head_of_request()))

    cpdef fail(self, error):
        """Answer for an origin that has no answer; a response that was begun is broken off."""
        if self.downstream.begun and not self.gone:
            self.cut_off(error)
            return
        self.note(ERROR, None, error.status)
        logger.warning(
            "%s: %s (request %s)", self.backend_name or "edge", error.detail, self.identity.decode("ascii", "replace")
        )
        self._send(*replies.upstream_failure(error, self.head_of_request(), self.identity))

    cpdef cut_off(self, error):
        """The origin broke a begun response off, or flyby does: so it is towards the client, and in the record."""
        if self._recorded:
            return
        if self.downstream.retract():
            self.fail(error)
            return
        self.broken = error
        self.reason = Reason.INCOMPLETE
        logger.warning(
            "%s: %s; the response to %s was cut off (request %s)", self.backend_name or "edge", error.detail,
            self.head_of_request().path.decode("latin-1"), self.identity.decode("ascii", "replace"),
        )
        self.downstream.abort()
        self.finished()

    def _broken(self):
        logger.exception("a fault in flyby itself, while %r", self)
        self.fail(UpstreamError(500, "internal-error", "proxy_internal_error", "a fault in the proxy"))

    def redirect(self, location, status):
        """Send the client elsewhere."""
        self.note(LOCAL, None, status)
        self._send(*replies.redirect(location, status))

    def reply(self, status, detail, extra=()):
        """Answer at the edge, with a page that says `detail` and `extra` fields."""
        self.note(LOCAL, None, status)
        self._send(*replies.page(status, self.head_of_request(), detail, extra))

    def answer(self, outcome, reason, status, fields, content):
        """Answer at the edge with these fields and this content."""
        self.note(outcome, reason, status)
        self._send(status, fields, content)

    def _send(self, status, fields, content):
        downstream = self.downstream
        if self.gone:
            return
        if downstream.begun:
            downstream.abort()
            self.finished()
            return
        self.status = status
        fields = replies.own_fields(fields, self.outcome, self.reason, self.context.clock.date_ms())
        downstream.begin(status, replies.reason_of(status), fields, len(content))
        downstream.data(content)
        downstream.end()

    # ---- the record --------------------------------------------------------------------------------------------------

    cpdef note(self, outcome, reason, int status):
        """Remember what becomes of the request."""
        self.outcome = outcome
        self.reason = reason
        self.status = status

    cpdef client_lost(self):
        """The client has gone: whatever works for it alone ends."""
        source = self.source
        if self.gone:
            return
        self.gone = True
        if not self._recorded and not self.downstream.begun:
            self.note(ERROR, Reason.CLIENT_LEFT, CLIENT_LEFT)
        elif not self._recorded:
            self.reason = Reason.CLIENT_LEFT
        self.source = None
        self.finished()
        if source is not None:
            source.client_left()

    cpdef client_ended(self):
        """The client sends nothing more."""
        if self.source is not None:
            self.source.client_ended()

    cpdef finished(self):
        """The response is sent, or cannot be: record it, once."""
        if not self._recorded:
            self._recorded = True
            if self.recorder is not None:
                self.recorder.record()
            else:
                record(self)
            # Neither is needed any more; the source knows this exchange, and the circle would wait for the collector.
            self.recorder = self.source = None


cdef Exchange exchange_of(context, Downstream client, const unsigned char *base, const Glance *seen, double started):
    """The exchange of a request that a glance recognised at `base`."""
    cdef Exchange exchange = Exchange.__new__(Exchange)
    exchange.context = context
    exchange.downstream = client
    exchange.text = PyBytes_FromStringAndSize(<const char *>base, seen.length)
    exchange.path = PyBytes_FromStringAndSize(<const char *>base + seen.target.start, seen.target.length)
    exchange.verb = seen.verb
    exchange.target = seen.target
    exchange.host = seen.host
    exchange.user_agent = seen.user_agent
    exchange.referer = seen.referer
    exchange.started = started
    return exchange
