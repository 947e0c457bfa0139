"""The demo app's texts: one frame of HTML, a style sheet, a drawing, and what stands on each page."""

from __future__ import annotations

STYLE = """\
:root { color-scheme: light dark; --ink: #1c2333; --paper: #f6f4ee; --line: #d9d3c4; --accent: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e3d8; --paper: #161a23; --line: #333a4a; --accent: #fb923c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 44rem; padding: 2rem 1.25rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.6 ui-sans-serif, system-ui, sans-serif; }
header { display: flex; gap: .75rem; align-items: center; border-bottom: 1px solid var(--line); padding-bottom: 1rem; }
header img { width: 2.5rem; height: 2.5rem; }
header a { color: inherit; text-decoration: none; font-weight: 650; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 2rem 0 .75rem; }
a { color: var(--accent); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.25rem; }
dt { font-weight: 600; } dd { margin: 0; }
code { font: .9em ui-monospace, monospace; }
form { display: inline; }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line); border-radius: .4rem;
  padding: .3rem .8rem; cursor: pointer; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .875rem; opacity: .75; }
@media (max-width: 32rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .6rem; } }
"""

LOGO = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 48 48" fill="none" stroke="#c2410c" stroke-width="4" \
stroke-linecap="round" stroke-linejoin="round"><path d="M4 26 44 8 30 42 22 29Z"/><path d="M22 29 44 8"/></svg>
"""

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · flyby demo</title>
<link rel="icon" href="/assets/logo.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/style.7d1f.css">
</head>
<body>
<header><img src="/assets/logo.svg" alt=""><a href="/">flyby demo app</a></header>
<main>
<h1>{title}</h1>
{content}</main>
<footer>Made by the app at {made} UTC, for request number {number}. Reload: as long as this line stays the same, \
the app was left alone.</footer>
</body>
</html>
"""

INDEX = """\
<p>This page comes from a small app behind flyby. It may be kept for ten seconds; for thirty more flyby serves its old
copy at once and fetches a new one behind it. The <code>Cache-Status</code> field of each response says so.</p>
<dl>
<dt><a href="/">/</a></dt><dd>cacheable: a miss, then hits, then stale while it is refreshed</dd>
<dt><a href="/news">/news</a></dt><dd>cacheable for two seconds; its copy stands in when the app fails</dd>
<dt><a href="/slow">/slow</a></dt><dd>takes three seconds; two visitors share one request to the app</dd>
<dt><a href="/account">/account</a></dt><dd>private: made for you alone, never kept</dd>
<dt><a href="/assets/logo.svg">/assets/logo.svg</a></dt><dd>revalidated by its ETag each time</dd>
<dt><a href="/assets/style.7d1f.css">/assets/style.7d1f.css</a></dt><dd>kept for a year</dd>
<dt><a href="/demo/counter">/demo/counter</a></dt><dd>how many requests have reached the app</dd>
</dl>
<p><form method="post" action="/demo/break"><button>Break /news</button></form>
<form method="post" action="/demo/mend"><button>Mend it</button></form></p>
"""

NEWS = """\
<p>No news is good news. Break this page with <code>POST /demo/break</code>, wait two seconds and reload: the app
answers 503, you still read this.</p>
"""

BROKEN = """\
<p>The app fails, as it was told to. <code>POST /demo/mend</code> repairs it.</p>
"""

ACCOUNT = """\
<p>This page says <code>Cache-Control: private</code> and sets a cookie, so every visit reaches the app.</p>
"""

NOT_FOUND = """\
<p>The app has no such page. <a href="/">Back to those it has.</a></p>
"""


def page(title: str, content: str, number: int, made: str) -> str:
    """A whole page. All four are the app's own text: nothing of a request is ever put into it."""
    return _PAGE.format(title=title, content=content, number=number, made=made)


def slow(number: int) -> list[str]:
    """The pieces of the slow page, one for each half second."""
    pieces = [f"Request number {number} has reached the app, which now takes its time.\n"]
    pieces += [f"{step} of 6\n" for step in range(1, 6)]
    return [*pieces, "6 of 6: done. Whoever asked meanwhile has read the same answer.\n"]
