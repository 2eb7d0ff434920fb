"""report.html: the whole comparison in one file that needs nothing else, offline, and runs nothing it did not bring."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jinja2
from markupsafe import Markup

from siamese.compare import charts, pictures, tables, wording
from siamese.compare.budgets import Budgets, budgets
from siamese.compare.classes import MOST_GROUPS, Changes, class_changes
from siamese.compare.comparison import Comparison
from siamese.compare.differences import Difference
from siamese.compare.failures import Failures, group_failures
from siamese.compare.figure import Figure, colour
from siamese.compare.forest import forests
from siamese.compare.grouping import ABSENT, Group, canonical, short_names, shown, value_names
from siamese.compare.settings import settings_of
from siamese.compare.statistics import Verdict
from siamese.compare.theme import TEMPLATES, page_css
from siamese.runs.run import Run

LARGEST = 5 * 2**20  # bytes of the page
TONES = {
    Verdict.DIFFERENT: ("different", "≠"),
    Verdict.EQUIVALENT: ("equivalent", "="),
    Verdict.NEGLIGIBLE: ("negligible", "≈"),
    Verdict.INCONCLUSIVE: ("inconclusive", "?"),
    None: ("none", "–"),
}


@dataclass(frozen=True)
class Drawn:
    """Everything drawn for one page; ``note`` says what was left out for its size."""

    forests: list[Figure]
    heatmaps: list[Figure]
    curves: list[tuple[str, list[Figure]]]
    roc: list[Figure]
    roc_missing: list[str]
    matrices: pictures.Matrices
    projections: list[Figure]
    classes: list[str]
    projections_missing: list[str]
    queries: list[pictures.Query]
    queries_missing: list[str]
    changes: list[Changes]
    changes_missing: list[str]
    failures: list[Failures]
    failures_missing: list[str]
    budgets: list[Budgets]
    part: str
    note: str = ""

    def figures(self) -> list[Figure]:
        """All drawings that are files of their own."""
        curve_panels = [figure for _, panels in self.curves for figure in panels]
        own = [*self.matrices.own.values(), *self.matrices.less_baseline.values()]
        return [*self.forests, *self.heatmaps, *curve_panels, *self.roc, *own, *self.projections]


def draw(c: Comparison, heatmap: Sequence[str]) -> Drawn:
    """Every figure of the comparison, of test images where a run has such arrays, else of validation images."""
    part = "test" if any((run.measured / "arrays" / "test.npz").exists() for run in c.runs) else "validation"
    keys = charts.heatmap_keys(c, heatmap)
    roc, without = charts.roc(c, part)
    projections, classes, projections_missing = pictures.projections(c, part)
    queries, queries_missing = pictures.galleries(c, part)
    changes, changes_missing = class_changes(c)
    failures, failures_missing = group_failures(c)
    return Drawn(
        forests(c),
        [charts.heatmap(c, m, keys) for m in c.metrics] if keys else [],
        [(name, panels) for name in charts.curve_names(c) if (panels := charts.curves(c, name))],
        roc,
        [run.name for run in without],
        pictures.matrices(c, part),
        projections,
        classes,
        projections_missing,
        queries,
        queries_missing,
        changes,
        changes_missing,
        failures,
        failures_missing,
        budgets(c),
        part,
    )


def render(c: Comparison, drawn: Drawn, words: Sequence[str], created: str) -> str:
    """The page; where it would be larger than 5 MiB, without galleries, then without distances and projections."""
    without = [
        drawn,
        replace(drawn, queries=[], note="Galleries are left out: the page would be larger than 5 MB."),
        replace(
            drawn,
            queries=[],
            matrices=pictures.Matrices({}, {}, []),
            projections=[],
            note="Galleries, class distances and projections are left out: the page would be larger than 5 MB.",
        ),
    ]
    for candidate in without:
        page = _rendered(c, candidate, words, created)
        if len(page.encode("utf-8", "replace")) <= LARGEST:
            break
    return page


def _rendered(c: Comparison, drawn: Drawn, words: Sequence[str], created: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=wording.alone, signed=partial(wording.number, sign=True), p=wording.p_value, cut=wording.cut
    )
    environment.filters.update(shown=shown, difference=wording.difference_text)
    css, script = page_css(), (TEMPLATES / "report.js").read_text(encoding="utf-8")
    extents = {m.name: charts.difference_extent([d for d in c.differences if d.metric is m]) for m in c.metrics}
    return environment.get_template("report.html.j2").render(
        c=c,
        drawn=drawn,
        created=created,
        title=_title(c),
        css=Markup(css),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(css)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        command=shlex.join(["python", "scripts/compare.py", *words]),
        counted=wording.counted(c),
        method=wording.method(c),
        counts=_counts(c.differences),
        any_bca=any(d.bca for d in c.differences),
        tones=TONES,
        table=_verdict_table(c),
        by_metric=[(m, [d for d in c.differences if d.metric is m]) for m in c.metrics],
        strip=lambda d: charts.difference_strip(d, extents[d.metric.name]),
        values_strip=lambda g, m: charts.values_strip(c, g, m),
        cell_text=lambda g, m: wording.mean_and_interval(c.cells.get((g.number, m.name)), len(g.runs)),
        effect_text=wording.effect_text,
        margin_text=wording.margin_text,
        colour=colour,
        baselines={d.baseline.number for d in c.differences},
        config_rows=_config_rows(c),
        run_table=_run_table(c),
        provenance=_provenance(c.runs),
        absent=ABSENT,
        x_axes=charts.X_AXES,
        most_panels=pictures.MOST_PANELS,
        most_groups=MOST_GROUPS,
        most_ellipses=pictures.MOST_ELLIPSES,
        group_of={run: g for g in c.groups for run in g.members},
    )


def _title(c: Comparison) -> str:
    names = [path.resolve().name for path in c.inputs]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


def _counts(differences: Sequence[Difference]) -> list[tuple[Verdict | None, int]]:
    found = [d.verdict for d in differences]
    return [(v, found.count(v)) for v in TONES if v in found]


def _verdict_table(c: Comparison) -> list[tuple[Group, Group, list[Difference | None]]]:
    """A row a compared group, a column a metric."""
    by_place = {(d.group.number, d.metric.name): d for d in c.differences}
    baseline = {d.group.number: d.baseline for d in c.differences}
    return [
        (g, baseline[g.number], [by_place.get((g.number, m.name)) for m in c.metrics])
        for g in c.groups
        if g.number in baseline
    ]


def _config_rows(c: Comparison) -> list[tuple[str, list[str]]]:
    """Each key that tells groups apart with its value in every group; where --group-by averages over a key, all of
    its values in the group."""
    rows = []
    for key in dict.fromkeys([*c.keys, *c.varying]):
        names = value_names(key, [settings_of(r).get(key, ABSENT) for r in c.runs])
        cells = []
        for group in c.groups:
            values = dict.fromkeys(names[canonical(settings_of(r).get(key, ABSENT))] for r in group.members)
            cells.append(", ".join(sorted(values)))
        rows.append((key, cells))
    return rows


def _run_table(c: Comparison) -> dict[str, Any]:
    """Columns and rows of the runs table; numbers keep their full precision for sorting."""
    rows = list(tables.runs_rows(c))
    for row in rows:
        row["group"] = c.groups[row["group"]].letter
        row["git_sha"] = (row["git_sha"] or "")[:10]
    metrics = {name for run in c.runs for name in run.summary}
    short = short_names([k for k in rows[0] if k not in metrics])
    columns = [
        {
            "name": name,
            "short": short.get(name, name),
            "metric": name in metrics,
            "constant": len(rows) > 1 and len({str(row[name]) for row in rows}) == 1,
            "numeric": all(row[name] is None or isinstance(row[name], (int, float)) for row in rows),
        }
        for name in rows[0]
        if name != "path"
    ]
    return {"columns": columns, "rows": rows}


def _provenance(runs: Sequence[Run]) -> list[tuple[str, list[tuple[str, int]]]]:
    """What the runs came from: each fact with its values and how many runs have each."""
    facts: dict[str, dict[str, int]] = {}
    for run in runs:
        manifest = run.manifest
        packages = _node(manifest, "packages")
        device, data, split = (_node(manifest, name) for name in ("device", "data", "split"))
        git = _node(manifest, "git")
        sha = str(git.get("sha") or "unknown")[:10] + " + changes" * bool(git.get("dirty"))
        for name, value in {
            "git": sha,
            "data": f"{data.get('source')} ({data.get('images')} images, fingerprint {data.get('fingerprint')})",
            "split": f"{split.get('train')} / {split.get('validation')} / {split.get('test')}",
            "device": f"{device.get('type')} {device.get('name') or ''} {device.get('precision') or ''}".strip(),
            "host": str(manifest.get("host")),
            "python": str(manifest.get("python")),
            **{str(k): str(v) for k, v in packages.items()},
        }.items():
            counts = facts.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    return [(name, sorted(counts.items(), key=lambda item: -item[1])) for name, counts in facts.items()]


def _node(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    node = manifest.get(name)
    return node if isinstance(node, dict) else {}


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
