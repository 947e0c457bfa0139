"""Files that a command makes: there whole or not at all, whoever reads the place meanwhile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click


class CannotWrite(click.ClickException):
    """A file that cannot be made: EX_CANTCREAT."""

    exit_code = 73


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put `content` at `path`, in the place of what is there. Raises `CannotWrite` when that fails."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            os.chmod(name, mode)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror}") from None
