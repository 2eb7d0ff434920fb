"""Small plans of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MARGINS = [{"metric": "auc", "scale": "difference", "margin": 0.01}]
MARGINS += [{"metric": "effective_rank", "scale": "log_ratio", "margin": 0.1}]


def claim(baseline: Any, arms: list[Any], seeds: int = 4, **more: Any) -> dict[str, Any]:
    usual = {"says": "It is so.", "metrics": {"test/auc": "HIGHER"}, "family": "one", "changes": "That it is not."}
    return {"baseline": baseline, "arms": arms, "seeds": seeds, **usual, **more}


def content(**more: Any) -> dict[str, Any]:
    usual = {
        "study": "small",
        "question": "Is it so?",
        "words": ["data=digits", "trainer.max_epochs=1"],
        "arms": {"a": ["optimizer.lr=1e-3"], "b": ["optimizer.lr=1e-2"], "c": ["trainer.max_epochs=2"]},
        "claims": {"first": claim("a", ["b"]), "second": claim("a", ["c"], 2)},
        "margins": MARGINS,
        "pilot": [100, 101],
        "first_seed": 7,
        "noise": ["a", "b"],
    }
    return usual | more


def written(folder: Path, **more: Any) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(content(**more), sort_keys=False))
    return folder
