"""plan.yaml: the claims of a study, the runs that decide them, and the margins, all settled before the first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from siamese.compare.metrics import Margin, margin_of
from siamese.errors import ConfigError, nearest

PLAN = "plan.yaml"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the runs of an arm.

    Attributes:
        minus: an arm whose value of the same seed is taken away (or divided by, where the margin is one of ratios),
            so that two such sides tell whether an effect is the same in two places.
        metric: in the place of the comparison's, where one run is held against itself.
    """

    arm: str
    minus: str | None = None
    metric: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        return (self.arm,) if self.minus is None else (self.arm, self.minus)

    @property
    def label(self) -> str:
        whole = self.arm if self.minus is None else f"{self.arm} − {self.minus}"
        return whole if self.metric is None else f"{whole}, {self.metric}"


@dataclass(frozen=True)
class Claim:
    """What is said, and the comparisons that decide it.

    Attributes:
        name: by which the command line asks for it.
        metrics: of each, what the claim expects: EQUIVALENT, DIFFERENT, HIGHER or LOWER than the baseline.
        family: the comparisons of all claims of one family are adjusted together.
        changes: what would change our mind.
    """

    name: str
    says: str
    baseline: Side
    sides: tuple[Side, ...]
    metrics: Mapping[str, str]
    seeds: int
    family: str
    changes: str

    @property
    def arms(self) -> list[str]:
        """Every arm it needs runs of."""
        return list(dict.fromkeys(arm for side in (self.baseline, *self.sides) for arm in side.arms))


@dataclass(frozen=True)
class Plan:
    """A study before its runs.

    Attributes:
        path: of plan.yaml.
        digest: of the file, 16 hexadecimal digits.
        words: the overrides of every run.
        arms: the overrides of each arm.
        pilot: seeds of the pilot, of which no verdict is made.
        first_seed: of the seeds that verdicts are made of; the others follow it.
        noise: two arms that differ by nothing but rounding; empty where there is no such pair.
    """

    path: Path
    digest: str
    name: str
    question: str
    words: tuple[str, ...]
    arms: Mapping[str, tuple[str, ...]]
    claims: tuple[Claim, ...]
    margins: Sequence[tuple[str, Margin]]
    pilot: tuple[int, ...]
    first_seed: int
    noise: tuple[str, ...]

    def margin(self, metric: str) -> Margin | None:
        return margin_of(metric, self.margins)

    def seeds_of(self, arm: str) -> range:
        """The seeds that verdicts need of an arm."""
        most = max((claim.seeds for claim in self.claims if arm in claim.arms), default=0)
        return range(self.first_seed, self.first_seed + most)

    def asked(
        self, claims: Sequence[str] | None = None, seeds: int | None = None, *, pilot: bool = False
    ) -> list[tuple[str, int]]:
        """Arm and seed of every run: seed by seed, so that a study that is stopped has whole pairs.

        Args:
            claims: only the runs that these need.
            seeds: only so many of the seeds.
            pilot: the pilot's seeds instead.

        Raises:
            ConfigError: for a claim that the plan does not have.
        """
        names = [claim.name for claim in self.claims]
        for name in claims or ():
            if name not in names:
                raise ConfigError(
                    f"study.claims: {self.path} has no claim {name}; expected some of {', '.join(names)}"
                    f"{nearest(name, names)}"
                )
        arms = list(dict.fromkeys(a for c in self.claims if claims is None or c.name in claims for a in c.arms))
        if pilot:
            return [(arm, seed) for seed in self.pilot[:seeds] for arm in arms]
        wanted = {arm: self.seeds_of(arm)[:seeds] for arm in arms}
        return [(a, s) for s in sorted({s for own in wanted.values() for s in own}) for a in arms if s in wanted[a]]
