"""A drawing with what has to be said of it, and the colours of groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from siamese.compare.grouping import Group
from siamese.palette import LINES


@dataclass(frozen=True)
class Figure:
    """A drawing with its title; ``slug`` names its file, where ``heading`` says more than the title on a page, and
    ``legend`` names the colours by their classes."""

    slug: str
    title: str
    drawing: Markup
    heading: str = ""
    legend: tuple[tuple[str, str], ...] = ()


def colour(group: Group) -> str:
    """The classes of a group's colour, and of its dashes where colours come round again."""
    turn, hue = divmod(group.number, len(LINES))
    return f"g{hue}" + (f" turn{min(turn, 3)}" if turn else "")


def legend(groups: Iterable[Group]) -> tuple[tuple[str, str], ...]:
    """The classes of each group's colour, and its name."""
    return tuple((colour(g), f"{g.letter}: {g.label}") for g in groups)
