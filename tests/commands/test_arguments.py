"""Help on terminals of any width."""

from __future__ import annotations

import importlib

import pytest

from siamese.commands.arguments import Parser

COMMANDS = ("compare", "data", "embed", "evaluate", "explore", "export", "index", "search")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_wrapped_between_words(command: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    about = importlib.import_module(f"siamese.commands.{command}").__doc__
    shown = Parser(command, about).format_help()
    head, _, rest = shown.partition("exit\n")  # the last word on --help, the only flag
    assert rest
    said = head.split("\n\n")[1].split() + rest.split()
    assert said == about.split()  # every word, in its order
    for line in shown.splitlines():
        assert len(line) <= width or line.startswith(("    python ", "        ")) or " " not in line
    commands = [line.strip().partition("  ")[0] for line in about.splitlines() if line.startswith("    python")]
    assert [line.strip().partition("  ")[0] for line in rest.splitlines() if line.startswith("    python")] == commands
