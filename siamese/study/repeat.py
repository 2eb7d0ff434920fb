"""Runs that repeat those of a study: whether they have its numbers, to the last bit, or by how much they differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from siamese.errors import RunError
from siamese.runs.run import Run
from siamese.study.plan import Plan
from siamese.study.rows import Row, collect

DEVICE = ("device", "packages")


@dataclass(frozen=True)
class Repeated:
    """One run beside its row.

    Attributes:
        equal: measures that are equal to the last bit, of ``measures``.
        farthest: the measure that differs most, relative to its own size, with both values.
        other: what of device and packages differs, which may be why.
    """

    arm: str
    seed: int
    measures: int
    equal: int
    farthest: tuple[str, float, float] | None
    other: list[str]


def repeated(plan: Plan, rows: Sequence[Row], runs: Iterable[Run]) -> list[Repeated]:
    """Every run of ``runs`` that ``rows`` have too.

    Raises:
        RunError: where there is none, or one was trained on other images.
    """
    committed = {row.place: row for row in rows}
    out = []
    for row in collect(plan, runs).rows:
        before = committed.get(row.place)
        if before is None:
            continue
        arm, seed = row.place
        for fact in ("data", "split"):
            if row.facts[fact] != before.facts[fact]:
                raise RunError(
                    f"{arm} seed {seed}: its {fact} has the fingerprint {row.facts[fact]}, the study's has "
                    f"{before.facts[fact]}; a repetition takes the same images"
                )
        out.append(_beside(row, before))
    if not out:
        raise RunError(f"no complete run of an arm and seed that {plan.path.parent} has a row of")
    return out


def _beside(row: Row, before: Row) -> Repeated:
    names = row.measures.keys() & before.measures.keys()
    apart = {name: (before.measures[name], row.measures[name]) for name in names}
    apart = {name: pair for name, pair in apart.items() if pair[0] != pair[1]}
    farthest = max(apart, key=lambda n: abs(apart[n][1] - apart[n][0]) / max(abs(apart[n][0]), 1e-12), default=None)
    return Repeated(
        *row.place,
        len(names),
        len(names) - len(apart),
        None if farthest is None else (farthest, *apart[farthest]),
        [fact for fact in DEVICE if _differ(row.facts[fact], before.facts[fact])],
    )


def _differ(now: str, before: str) -> bool:
    """Whether devices, or versions of packages, differ as far as is known: a processor without a name may be any."""
    if any(text.startswith("cpu ") for text in (now, before)):
        now, before = now.rpartition(" ")[2], before.rpartition(" ")[2]
    return now != before
