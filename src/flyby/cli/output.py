"""Files that a command makes: there whole or not at all, whoever reads the place meanwhile."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Put `content` at `path`, in the place of what is there. Raises `click.ClickException` when that fails."""
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
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
