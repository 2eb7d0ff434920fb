"""The pages of the documentation, taken apart: links, anchors, code blocks, commands, tables."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "outputs" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
SHELL = "python pip make export source ls cd tensorboard mlflow wandb optuna-dashboard".split()


class Block(NamedTuple):
    """A code block: its lines, the number of the first, and its language (none if it is indented)."""

    line: int
    language: str
    lines: list[str]


class Command(NamedTuple):
    """A command of a page: its words, and the lines it is written on."""

    page: Path
    line: int
    words: list[str]
    lines: list[str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line} {' '.join(self.words)[:50]}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced and the indented code blocks of ``page``."""
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        start = number
        if lines[number].startswith("```"):
            end = next(i for i in range(start + 1, len(lines)) if lines[i].startswith("```"))
            yield Block(start + 2, lines[start][3:].strip(), lines[start + 1 : end])
            number = end + 1
        elif lines[number].startswith("    ") and not (number and lines[number - 1].strip()):
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            yield Block(start + 1, "", "\n".join(line[4:] for line in lines[start:number]).rstrip().split("\n"))
        else:
            number += 1


def prose(page: Path) -> str:
    """The text of ``page`` without its code blocks and inline code."""
    lines = page.read_text().splitlines()
    for block in blocks(page):
        lines[block.line - 1 : block.line - 1 + len(block.lines)] = [""] * len(block.lines)
    return re.sub(r"`[^`\n]*`", "code", "\n".join(lines).replace("```", ""))


def commands(page: Path) -> Iterator[Command]:
    """What a reader may type: of a console block what follows ``$``, elsewhere what begins with a command's name."""
    for block in blocks(page):
        if block.language not in ("", "console", "sh", "bash"):
            continue
        number = 0
        while number < len(block.lines):
            start, text = number, block.lines[number]
            number += 1
            if block.language == "console" and not text.startswith("$ "):
                continue
            text = text.removeprefix("$ ")
            if not text.strip() or not (text.split()[0] in SHELL or text.startswith("siamese-")):
                continue
            while text.endswith("\\") or _is_open(text):
                text = text.removesuffix("\\") + ("" if text.endswith("\\") else "\n") + block.lines[number]
                number += 1
            yield Command(page, block.line + start, shlex.split(text, comments=True), block.lines[start:number])


def _is_open(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return False


def links(page: Path) -> list[str]:
    """The targets of the links and images of ``page`` that are not addresses on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def headings(page: Path) -> list[str]:
    fenced = {n for b in blocks(page) for n in range(b.line, b.line + len(b.lines))}
    lines = enumerate(page.read_text().splitlines(), 1)
    return [re.sub(r"^#+ |`", "", text) for n, text in lines if re.match(r"#+ ", text) and n not in fenced]


def github_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def site_anchor(heading: str) -> str:
    """The same of Python-Markdown, which makes the site."""
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def rows(page: Path) -> Iterator[list[str]]:
    """The cells of each row of each table of ``page``."""
    for line in page.read_text().splitlines():
        if line.startswith("|") and not re.match(r"\|[-| :]+\|$", line):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
