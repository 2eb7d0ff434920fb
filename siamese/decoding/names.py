"""Names of files, which may be any bytes, as text that can be stored and shown."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5  # names in a line, at most


def visible(names: Sequence[str]) -> list[str]:
    """``names``, all different, as Unicode text that is all different too: bytes of a file name that are no text are
    written out (``\\xff``)."""
    texts = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names]
    if texts == list(names):
        return texts
    taken = {name for name, text in zip(names, texts, strict=True) if name == text}
    for i, name in enumerate(names):
        if texts[i] != name:
            while texts[i] in taken:  # another file's name is what this one's looks like, written out
                texts[i] = texts[i].replace("\\", "\\\\")
            taken.add(texts[i])
    return texts


def one_line(name: object) -> str:
    """``name`` as it can be part of a line: with what does not print written out."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def few(names: Sequence[object]) -> str:
    """The first of ``names`` and how many more there are."""
    shown = ", ".join(map(one_line, names[:SHOWN]))
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def counted(count: int, one: str, several: str | None = None) -> str:
    """``count`` with its noun: ``one``, or ``several`` (``one`` with an s) where it is not 1."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"
