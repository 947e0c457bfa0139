"""`flyby purge`: ask a running edge to drop, or outdate, what it has stored.

It speaks HTTP to the edge (a PURGE request, see docs/purging.md), so it works from wherever the edge lets it. Where
the edge is and its secret come from the options, else from the configuration file, else from the environment and the
defaults. Exit codes: 0 done, 1 the edge answered with an error, 2 wrong use, 69 no edge there, 76 what answered is no
flyby, 77 not permitted, 78 a configuration file that cannot be used.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from flyby.config import Config
from flyby.config.values import parse_listen
from flyby.errors import ConfigError

EX_FAILED = 1
EX_UNAVAILABLE = 69
EX_PROTOCOL = 76
EX_NOPERM = 77
EX_CONFIG = 78

TIMEOUT_S = 30.0
DEFAULT_EDGE = "http://127.0.0.1:8080"


def _url(ctx: click.Context, param: click.Parameter, value: str | None) -> SplitResult | None:
    if value is None:
        return None
    try:
        url = urlsplit(value if "://" in value else f"http://{value}")
        sound = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not url.username
    except ValueError:
        sound = False
    if not sound or not value.isascii() or any(byte <= " " for byte in value):
        raise click.BadParameter(f"{value!r} is not a URL: write http://HOST/PATH", ctx, param)
    return url


@click.command("purge")
@click.argument("url", required=False, callback=_url)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="What was stored with this tag; can be repeated.")
@click.option("--prefix", metavar="URL", callback=_url, help="This URL and everything below it.")
@click.option("--host", metavar="HOST", callback=_url, help="Everything of this host.")
@click.option("--all", "everything", is_flag=True, help="The whole cache.")
@click.option("--soft", is_flag=True, help="Only make it stale: it may be served while it is refreshed.")
@click.option("--edge", metavar="URL", callback=_url, help=f"Where the edge listens.  [default: {DEFAULT_EDGE}]")
@click.option("--secret", metavar="SECRET", envvar="FLYBY_PURGE_SECRET", help="Of server.purge.  [FLYBY_PURGE_SECRET]")
@click.option("-c", "--config", "path", metavar="FILE", help="The edge's configuration, to take both from.")
@click.option("--json", "as_json", is_flag=True, help="Write the edge's answer, one JSON object.")
def command(
    url: SplitResult | None,
    tags: tuple[str, ...],
    prefix: SplitResult | None,
    host: SplitResult | None,
    everything: bool,
    soft: bool,
    edge: SplitResult | None,
    secret: str | None,
    path: str | None,
    as_json: bool,
) -> int:
    """Purge a URL, or what a tag, a prefix or a host names, or everything."""
    given = [scope for scope in (url, tags, prefix, host, everything) if scope]
    if len(given) != 1:
        raise click.UsageError("give one of URL, --tag, --prefix, --host and --all", click.get_current_context())
    if path is not None:
        try:
            config = Config.load(path)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            return EX_CONFIG
        edge = edge or _edge_of(config)
        secret = secret or config.server.purge.secret
    edge = edge or urlsplit(DEFAULT_EDGE)
    target = url or prefix or host
    fields = {"Flyby-Purge": ("url" if url else "prefix" if prefix else "host" if host else "tag" if tags else "all")}
    if soft:
        fields["Flyby-Purge"] += ", soft"
    if tags:
        fields["Flyby-Purge-Tag"] = _joined(tags)
    if secret:
        fields["Authorization"] = f"Bearer {secret}"
    if target is not None:
        fields["Host"] = target.netloc
    where = (
        "/" if target is None or host is not None else (target.path or "/") + (f"?{target.query}" * bool(target.query))
    )
    return _ask(edge, where, fields, soft, as_json)


def _edge_of(config: Config) -> SplitResult:
    """How to reach an address that the configuration listens on, from this machine: the first that HTTP will do for."""
    addresses = [parse_listen(text) for text in config.server.listen]
    address = next((each for each in addresses if not each.secure and not each.proxy_protocol), addresses[0])
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address.host, address.host)
    return urlsplit(f"http://[{name}]:{address.port}" if ":" in name else f"http://{name}:{address.port}")


def _joined(tags: tuple[str, ...]) -> str:
    for tag in tags:
        if not tag or any(byte <= " " or byte == "\x7f" for byte in tag):
            raise click.BadParameter(f"{tag!r} is not a tag: it has a space in it, or nothing", param_hint="--tag")
    return " ".join(tags).encode().decode("latin-1")


def _ask(edge: SplitResult, where: str, fields: dict[str, str], soft: bool, as_json: bool) -> int:
    kind = http.client.HTTPSConnection if edge.scheme == "https" else http.client.HTTPConnection
    connection = kind(edge.hostname or "", edge.port, timeout=TIMEOUT_S)
    try:
        connection.request("PURGE", where, headers=fields)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        why = getattr(error, "strerror", None) or error
        return _fail(EX_UNAVAILABLE, f"no edge answers at {edge.geturl()}: {why}; name it with --edge or -c")
    finally:
        connection.close()
    if response.status == 403:
        return _fail(
            EX_NOPERM,
            "not permitted: give the secret of the edge's server.purge with --secret, or allow this address there",
        )
    if response.status != 200:
        return _fail(EX_FAILED, f"the edge answered {response.status} {response.reason}")
    try:
        report: Any = json.loads(content)
        purged = int(report["purged"])
    except (ValueError, KeyError, TypeError):
        return _fail(EX_PROTOCOL, f"what answers at {edge.geturl()} is not flyby")
    if not purged:
        click.echo(f"flyby purge: {_nothing(fields, where)}", err=True)
    if as_json:
        click.echo(json.dumps(report))
        return 0
    did = "outdated" if soft else "purged"
    for tag, count in report.get("tags", {}).items():
        click.echo(f"{tag}: {did} {count}")
    if len(report.get("tags", {})) != 1:
        click.echo(f"{did} {purged} {'response' if purged == 1 else 'responses'}")
    return 0


def _nothing(fields: dict[str, str], where: str) -> str:
    """Why nothing was purged, as far as it can be told from here."""
    scope = fields["Flyby-Purge"].partition(",")[0]
    if scope == "all":
        return "the cache holds nothing"
    if scope == "tag":
        return "no stored response has such a tag (Surrogate-Key, Cache-Tag)"
    what = fields["Host"] if scope == "host" else fields["Host"] + where
    of = {"url": "", "prefix": " or below it", "host": ""}[scope]
    return (
        f"nothing is stored under {what}{of}: the host must be the one that clients name, with its port unless that is"
        " the scheme's own, and the path and query as they are stored"
    )


def _fail(code: int, message: str) -> int:
    click.echo(f"flyby purge: {message}", err=True)
    return code
