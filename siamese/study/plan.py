"""plan.yaml: the claims of a study, the runs that decide them, and the margins, all settled before the first run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from siamese.compare.metrics import Margin, margin_of
from siamese.errors import ConfigError, nearest

PLAN = "plan.yaml"
EXPECTED = ("EQUIVALENT", "DIFFERENT", "HIGHER", "LOWER")


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


def read_plan(path: Path) -> Plan:
    """The plan in the file ``path``, or in the folder.

    Raises:
        ConfigError: for a file that is no plan, naming the place.
    """
    path = path / PLAN if path.is_dir() else path
    try:
        text = path.read_bytes()
        found = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: could not be read as YAML ({' '.join(str(error).split())[:120]})") from None
    digest = hashlib.blake2b(text, digest_size=8).hexdigest()
    return Reader(path).plan(found, digest)


class Reader:
    """Reads the parts of a plan, each complaint with its place in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, found: Any, digest: str) -> Plan:
        needed: dict[str, Any] = {
            "study": str,
            "question": str,
            "words": list,
            "arms": dict,
            "claims": dict,
            "margins": list,
        }
        needed |= {"pilot": list, "first_seed": int, "noise": list}
        self._shape("the plan", found, needed)
        arms = {str(name): self._words(f"arms.{name}", words) for name, words in found["arms"].items()}
        twice = {words: name for name, words in arms.items()}
        for name, words in arms.items():
            if twice[words] != name:
                self._refuse(f"arms.{name}", f"is the arm {twice[words]}", "arms that differ")
        for seed in [*found["pilot"], found["first_seed"]]:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                self._refuse("pilot and first_seed", seed, "seeds, from 0")
        for arm in found["noise"]:
            self._arm("noise", arm, arms)
        claims = tuple(self._claim(str(name), one, arms) for name, one in found["claims"].items())
        if len(found["noise"]) not in (0, 2):
            self._refuse("noise", found["noise"], "two arms, or none")
        plan = Plan(
            self.path,
            digest,
            found["study"],
            " ".join(found["question"].split()),
            self._words("words", found["words"]),
            arms,
            claims,
            [self._margin(entry) for entry in found["margins"]],
            tuple(found["pilot"]),
            found["first_seed"],
            tuple(found["noise"]),
        )
        if both := sorted({s for arm in arms for s in plan.seeds_of(arm)} & set(plan.pilot)):
            self._refuse("pilot", both[0], "seeds that no verdict is made of")
        for claim in claims:
            for metric, expected in claim.metrics.items():
                if expected == "EQUIVALENT" and plan.margin(metric) is None:
                    self._refuse(f"claims.{claim.name}", f"{metric} without a margin", "one in margins")
        return plan

    def _claim(self, name: str, found: Any, arms: Mapping[str, Any]) -> Claim:
        at = f"claims.{name}"
        needed: dict[str, Any] = {"says": str, "baseline": (str, dict), "arms": list, "metrics": dict, "seeds": int}
        self._shape(at, found, needed | {"family": str, "changes": str})
        for metric, expected in found["metrics"].items():
            if expected not in EXPECTED:
                self._refuse(f"{at}.metrics.{metric}", expected, f"one of {', '.join(EXPECTED)}")
        return Claim(
            name,
            " ".join(found["says"].split()),
            self._side(f"{at}.baseline", found["baseline"], arms),
            tuple(self._side(f"{at}.arms", side, arms) for side in found["arms"]),
            found["metrics"],
            found["seeds"],
            found["family"],
            " ".join(found["changes"].split()),
        )

    def _side(self, at: str, found: Any, arms: Mapping[str, Any]) -> Side:
        if isinstance(found, str):
            return Side(self._arm(at, found, arms))
        keys = ("arm", "minus", "metric")
        if not isinstance(found, Mapping) or "arm" not in found or not found.keys() <= set(keys):
            self._refuse(at, found, "the name of an arm, or {arm, minus, metric}")
        for key in ("arm", "minus"):
            if key in found:
                self._arm(f"{at}.{key}", found[key], arms)
        return Side(*(found.get(key) for key in keys))

    def _arm(self, at: str, name: Any, arms: Mapping[str, Any]) -> str:
        if name not in arms:
            self._refuse(at, name, f"one of the arms{nearest(str(name), arms)}")
        return str(name)

    def _margin(self, entry: Any) -> tuple[str, Margin]:
        try:
            return Margin.read(entry)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: margins: {error}") from None

    def _words(self, at: str, found: Any) -> tuple[str, ...]:
        if not isinstance(found, list) or not all(isinstance(w, str) and ("=" in w or w[:1] == "~") for w in found):
            self._refuse(at, found, "a list of overrides, as in [loss=triplet, data.batch_size=16]")
        return tuple(found)

    def _shape(self, at: str, found: Any, needed: Mapping[str, Any]) -> None:
        if not isinstance(found, Mapping):
            self._refuse(at, found, f"{', '.join(needed)}")
        for key in found:
            if key not in needed:
                self._refuse(at, f"{key}{nearest(str(key), needed)}", ", ".join(needed))
        for key, kind in needed.items():
            if not isinstance(found.get(key), kind):
                words = {str: "text", list: "a list", dict: "a mapping", int: "a whole number"}
                self._refuse(f"{at}: {key}", found.get(key, "nothing"), words.get(kind, "an arm"))

    def _refuse(self, at: str, found: Any, expected: str) -> None:
        raise ConfigError(f"{self.path}: {at}: expected {expected}, found {found}")
