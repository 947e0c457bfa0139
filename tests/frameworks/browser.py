"""A browser as far as it matters here: it sends its cookies back, and names its origin with every unsafe request."""

from __future__ import annotations

import http.client
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from tests.edge import ServedEdge


@dataclass
class Page:
    """A response."""

    status: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def cache(self) -> str:
        """What the edge says of its cache, in Cache-Status."""
        return self.headers.get("Cache-Status", "")


@dataclass
class Browser:
    """One visitor of `edge`, who knows it as `host`."""

    edge: ServedEdge
    host: str
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Scheme, host and port of the page (RFC 6454 4)."""
        return f"{'https' if self.edge.secure else 'http'}://{self.host}"

    def get(self, path: str, **headers: str) -> Page:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str], origin: str = "") -> Page:
        """A form, as the page itself sends it, or one of another site's."""
        origin = origin or self.origin
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Referer": origin + path}
        return self._ask("POST", path, urlencode(fields), headers)

    def _ask(self, method: str, path: str, content: str | None, headers: dict[str, str]) -> Page:
        sent = {"Host": self.host, "Accept": "text/html", "Accept-Encoding": "identity", **headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = self._connection()
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            page = Page(response.status, response.read().decode(), response.headers)
        finally:
            connection.close()
        for line in page.headers.get_all("Set-Cookie") or ():
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return page

    def _connection(self) -> http.client.HTTPConnection:
        if not self.edge.secure:
            return http.client.HTTPConnection(*self.edge.address, timeout=20)
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(*self.edge.address, timeout=20, context=trusting)


def hidden(page: Page, name: str) -> str:
    """The value of a hidden field of the page's form."""
    found = re.search(rf'name="{name}" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def path_of(location: str) -> str:
    """Without scheme and host."""
    return urlsplit(location).path
