"""plan.yaml read, each complaint with its place in the file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml

from siamese.compare.metrics import Margin
from siamese.errors import ConfigError, nearest
from siamese.study.plan import PLAN, Claim, Plan, Side

EXPECTED = ("EQUIVALENT", "DIFFERENT", "HIGHER", "LOWER")
NAME = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_][\w.-]*", re.ASCII | re.IGNORECASE)
NAMED = "a name of letters, digits, _, . and -, which begins with a letter"  # as Hydra and file names take them
LARGEST = 2**20  # bytes


def read_plan(path: Path) -> Plan:
    """The plan in the file ``path``, or in the folder.

    Raises:
        ConfigError: for a file that is no plan, naming the place.
    """
    path = path / PLAN if path.is_dir() else path
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST)
        found = yaml.load(text, Loader=_Once)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file in {Path.cwd()}; expected the plan of a study") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: could not be read as YAML ({' '.join(str(error).split())[:120]})") from None
    digest = hashlib.blake2b(text, digest_size=8).hexdigest()
    return Reader(path).plan(found, digest)


class _Once(yaml.SafeLoader):
    """Plain values, of mappings that name each key once: a second one would take the place of what was settled."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {key} is there twice")
        return super().construct_mapping(node, deep)


class Reader:
    """Reads the parts of a plan."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, found: Any, digest: str) -> Plan:
        needed: dict[str, Any] = {"study": str, "question": str, "words": list, "arms": dict, "claims": dict}
        needed |= {"margins": list, "pilot": list, "first_seed": int, "noise": list}
        self._shape("the plan", found, needed, some=("arms", "claims"))
        arms = {self._named("arms", name): self._words(f"arms.{name}", words) for name, words in found["arms"].items()}
        twice = {words: name for name, words in arms.items()}
        for name, words in arms.items():
            if twice[words] != name:
                self._refuse(f"arms.{name}", f"is the arm {twice[words]}", "arms that differ")
        for seed in [*found["pilot"], found["first_seed"]]:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                self._refuse("pilot and first_seed", seed, "seeds, from 0")
        noise = tuple(self._arm("noise", arm, arms) for arm in found["noise"])
        if len(noise) not in (0, 2) or len({*noise}) < len(noise):
            self._refuse("noise", found["noise"], "two arms, or none")
        claims = tuple(self._claim(self._named("claims", name), one, arms) for name, one in found["claims"].items())
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
            noise,
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
        self._shape(at, found, needed | {"family": str, "changes": str}, some=("arms", "metrics"))
        for metric, expected in found["metrics"].items():
            if not isinstance(metric, str):
                self._refuse(f"{at}.metrics", metric, "the names of measures, as test/auc")
            if expected not in EXPECTED:
                self._refuse(f"{at}.metrics.{metric}", expected, f"one of {', '.join(EXPECTED)}")
        if found["seeds"] < 1:
            self._refuse(f"{at}: seeds", found["seeds"], "at least 1")
        baseline = self._side(f"{at}.baseline", found["baseline"], arms)
        sides = tuple(self._side(f"{at}.arms", side, arms) for side in found["arms"])
        for i, side in enumerate(sides):
            if side in (baseline, *sides[:i]):
                self._refuse(f"{at}.arms", f"{side.label} twice", "sides that differ")
        return Claim(
            name,
            " ".join(found["says"].split()),
            baseline,
            sides,
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
        if not isinstance(found.get("metric", ""), str):
            self._refuse(f"{at}.metric", found["metric"], "the name of a measure, as val/auc")
        return Side(found["arm"], found.get("minus"), found.get("metric"))

    def _arm(self, at: str, name: Any, arms: Mapping[str, Any]) -> str:
        if not isinstance(name, str) or name not in arms:
            self._refuse(at, name, f"one of the arms{nearest(str(name), arms)}")
        return name

    def _named(self, at: str, name: Any) -> str:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self._refuse(at, name, NAMED)
        return name

    def _margin(self, entry: Any) -> tuple[str, Margin]:
        try:
            return Margin.read(entry)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: margins: {error}") from None

    def _words(self, at: str, found: Any) -> tuple[str, ...]:
        if not isinstance(found, list) or not all(isinstance(w, str) and ("=" in w or w[:1] == "~") for w in found):
            self._refuse(at, found, "a list of overrides, as in [loss=triplet, data.batch_size=16]")
        return tuple(found)

    def _shape(self, at: str, found: Any, needed: Mapping[str, Any], some: tuple[str, ...]) -> None:
        """Refuse what lacks one of the ``needed`` keys, has another, or has nothing in one of ``some``."""
        if not isinstance(found, Mapping):
            self._refuse(at, found, f"{', '.join(needed)}")
        for key in found:
            if key not in needed:
                self._refuse(at, f"{key}{nearest(str(key), needed)}", ", ".join(needed))
        for key, kind in needed.items():
            if not isinstance(found.get(key), kind) or isinstance(found[key], bool):
                words = {str: "text", list: "a list", dict: "a mapping", int: "a whole number"}
                self._refuse(f"{at}: {key}", found.get(key, "nothing"), words.get(kind, "an arm"))
        for key in some:
            if not found[key]:
                self._refuse(f"{at}: {key}", "none", "at least one")

    def _refuse(self, at: str, found: Any, expected: str) -> NoReturn:
        raise ConfigError(f"{self.path}: {at}: expected {expected}, found {found}")
