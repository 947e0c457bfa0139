"""A Dockerfile as its instructions, so that what an image is made by can be carried out without Docker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word, its text with continued lines joined, and its stage."""

    word: str
    text: str
    stage: int


def read(path: Path) -> list[Instruction]:
    """Every instruction, in order (docs.docker.com/reference/dockerfile)."""
    joined = re.sub(r"\\\n\s*", "", path.read_text())
    found = []
    stage = -1
    for line in joined.splitlines():
        if line and not line.startswith("#"):
            word, _, text = line.partition(" ")
            stage += word == "FROM"
            found.append(Instruction(word, text, stage))
    return found


def step(instructions: list[Instruction], needle: str) -> str:
    """The one RUN command with `needle` in it, without its mounts."""
    [found] = [each.text for each in instructions if each.word == "RUN" and needle in each.text]
    return re.sub(r"--mount=\S+ ", "", found).strip()
