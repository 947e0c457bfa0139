"""A Django project in one file: a form with the CSRF check, pages with and without Cache-Control, and redirects.

Run as a program it listens on PORT. SETTINGS is a JSON object of the settings that a test adds.
"""

from __future__ import annotations

import json
import os
from typing import Any

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.cache import cache_control


def form(request: HttpRequest) -> HttpResponse:
    """The form, and what becomes of it."""
    if request.method == "POST":
        return HttpResponseRedirect(request.build_absolute_uri(f"/thanks/{request.POST['name']}"))
    token = get_token(request)
    field = f'<input type="hidden" name="csrfmiddlewaretoken" value="{token}">'
    return HttpResponse(f'<form method="post">{field}<input name="name"></form>')


def thanks(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"thanks, {name}")


def plain(request: HttpRequest) -> HttpResponse:
    """As most views are: nothing is said about caching."""
    return HttpResponse("<h1>plain</h1>")


@cache_control(public=True, max_age=60)
def public(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<h1>public</h1>")


@cache_control(public=True, max_age=60)
def public_with_token(request: HttpRequest) -> HttpResponse:
    """The mistake: a page for everybody that holds one visitor's token."""
    return HttpResponse(get_token(request))


def seen(request: HttpRequest) -> HttpResponse:
    """What Django makes of the request."""
    return JsonResponse(
        {"host": request.get_host(), "secure": request.is_secure(), "address": request.META["REMOTE_ADDR"]}
    )


urlpatterns = [
    path("form", form),
    path("thanks/<name>", thanks),
    path("plain", plain),
    path("public", public),
    path("public-with-token", public_with_token),
    path("seen", seen),
]

USUAL: dict[str, Any] = {
    "DEBUG": False,
    "SECRET_KEY": "for a test",
    "ROOT_URLCONF": __name__,
    "ALLOWED_HOSTS": ["*"],
    "MIDDLEWARE": ["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
}

if __name__ == "__main__":
    settings.configure(**{**USUAL, **json.loads(os.environ.get("SETTINGS", "{}"))})
    execute_from_command_line(["django", "runserver", "--noreload", f"127.0.0.1:{os.environ['PORT']}"])
