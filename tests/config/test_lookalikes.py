"""Paths in other languages: told, and translated where they can be."""

from __future__ import annotations

import pytest

from flyby.config.lookalikes import looks_foreign, translated
from flyby.config.patterns import Capture, Literal, Suffix, parse_path


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("/users/{id}", "/users/:id"),
        ("/users/{id:[0-9]+}/x", "/users/:id/x"),
        ("/users/<int:id>", "/users/:id"),
        ("/users/<id>", "/users/:id"),
        ("/{a}/{b}", "/:a/:b"),
        (r"/users/(\d+)", "/users/:name"),
        (r"/users/\d+/posts/\d+", "/users/:name/posts/:name2"),
        ("/x/([^/]+)/y", "/x/:name/y"),
        (r"^/users/(?P<id>[0-9]+)$", "/users/:id"),
        (r"^/assets/.*\.css$", "/assets/*.css"),
        (r".*\.css$", "/*.css"),
        ("^/api", "/api"),
        ("^/api/(.*)$", "/api/"),
        ("/files/<path:p>", "/files/*p"),
        ("/files/{p:.*}", "/files/*p"),
    ],
)
def test_a_path_that_never_matches_is_refused_with_what_to_write(text: str, ours: str) -> None:
    with pytest.raises(ValueError, match="never matches") as caught:
        parse_path(text)
    assert str(caught.value).endswith(f"write {ours}")
    parse_path(ours)


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("/img/.*", "/img/*rest"),
        ("/a/[0-9]+", "/a/:name"),
        ("/a/[a-z]+/b", "/a/:name/b"),
        ("/x/(.*)", "/x/*rest"),
        ("/price$", "/price"),
        ("/logo*.png", "/*.png"),
        ("/(css|js)/x", None),
        ("/a*b", None),
    ],
)
def test_a_path_that_may_be_meant_as_it_stands_is_told(text: str, ours: str | None) -> None:
    assert looks_foreign(text)
    assert translated(text) == ours
    assert parse_path(text).parts == (Literal(text.encode()),)
    if ours is not None:
        parse_path(ours)


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/a.b",
        "/wiki/Foo_(bar)",
        "/a+b",
        "/:id",
        "/x/*rest",
        "/img/*.css",
        "*.css",
        "/a[1]",
        "/a-b/c_d",
        "/~u",
        "/$x",
    ],
)
def test_a_path_of_ours_is_left_alone(text: str) -> None:
    assert not looks_foreign(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("*.css", (Literal(b"/"), Suffix(b".css"))),
        ("/*.css", (Literal(b"/"), Suffix(b".css"))),
        ("/img/*.css", (Literal(b"/img/"), Suffix(b".css"))),
        ("/img/*-small.jpg", (Literal(b"/img/"), Suffix(b"-small.jpg"))),
        ("/:user/*.tar.gz", (Literal(b"/"), Capture("user", rest=False), Literal(b"/"), Suffix(b".tar.gz"))),
    ],
)
def test_endings(text: str, parts: tuple[object, ...]) -> None:
    pattern = parse_path(text)
    assert pattern.parts == parts
    assert not pattern.prefix
    assert pattern.suffix == text[text.rindex("*") + 1 :]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("/*.css/x", "must be the last segment"),
        ("/*rest.css", "neither a name nor an ending; write [*].css"),
        ("/x/*", "needs a name"),
        ("*rest", "must start with a slash"),
        ("*", "must start with a slash"),
        ("/a/*.c*s", "needs a name"),
    ],
)
def test_what_is_no_ending(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_path(text)
