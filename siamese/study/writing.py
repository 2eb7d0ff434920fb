"""The files of a study beside its plan: tests.csv, table.md, report.html and a figure a claim. All are made of runs.csv
and plan.yaml alone, so that whoever has these two can make the others again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from siamese.compare.standalone import standalone
from siamese.compare.tables import as_csv
from siamese.compare.theme import page_css
from siamese.compare.wording import difference_text, margin_text, number, p_value
from siamese.errors import ConfigError
from siamese.runs.files import atomic
from siamese.study.picture import COLOURS, forest, overview
from siamese.study.plan import Claim, Plan
from siamese.study.rows import Row
from siamese.study.verdicts import Compared, Decided

SHARED = {"data": "images", "split": "split", "git": "code", "device": "device", "packages": "packages"}  # by a pair
OURS = re.compile(r"(?:overview|claim_.+)[.](?:svg|png|pdf)")  # the names of figures
BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"  # of the tables in a page


def write(
    plan: Plan, rows: Sequence[Row], decided: Sequence[Decided], *, paper: bool = False, into: Path | None = None
) -> list[str]:
    """Write every file beside the plan, and return their names; where ``paper``, figures as PNG and PDF too; tables and
    figures also ``into`` a page and the folder beside it that has its name.

    Raises:
        ConfigError: for a page that cannot be written into; nothing is written then.
        RunError: when a file cannot be written.
    """
    folder = plan.path.parent
    drawn = [f for f in (overview(plan, decided), *map(forest, decided)) if f is not None]
    figures = {f"{f.slug}.svg": standalone(f).encode() for f in drawn}
    if into is not None:
        _put_into(into, as_markdown(plan, rows, decided, quote(into.stem)), figures)
    if paper:
        from siamese.compare.paper import as_paper  # slow to import

        figures |= {f"{f.slug}.{kind}": content for f in drawn for kind, content in as_paper(f)[0].items()}
    texts = {"tests.csv": comparisons_csv(decided), "table.md": as_markdown(plan, rows, decided)}
    texts |= {"report.html": page(plan, rows, decided)}
    contents = {name: text.encode() for name, text in texts.items()}
    for name, content in contents.items():
        with atomic(folder / name) as file:
            file.write(content)
    _write_figures(folder / "figures", figures)
    return ["report.html", "tests.csv", "table.md", *["figures/"] * bool(figures)]


def _write_figures(folder: Path, figures: Mapping[str, bytes]) -> None:
    """Write ``figures`` in the place of those of earlier rows; what else is in ``folder`` stays."""
    for name, content in figures.items():
        with atomic(folder / name) as file:
            file.write(content)
    for old in folder.glob("*"):
        if OURS.fullmatch(old.name) and old.name not in figures:
            old.unlink()


def comparisons_csv(decided: Sequence[Decided]) -> str:
    """Every comparison, a line each, numbers to the last bit."""
    return as_csv(_comparison(one, c) for one in decided for c in one.comparisons)


def _comparison(one: Decided, c: Compared) -> dict[str, Any]:
    d, margin = c.found, c.found.metric.margin
    low, high = d.interval or (None, None)
    return {
        "claim": one.claim.name,
        "arm": d.group.label,
        "baseline": d.baseline.label,
        "metric": d.metric.name,
        "expected": c.expected,
        "n": d.n,
        "scale": d.scale,
        "margin": margin.size if margin else None,
        "mean": d.mean,
        "low": low,
        "high": high,
        "p_t": d.p_t,
        "p_sign_flip": d.p_sign_flip,
        "p_tost": d.p_tost,
        "p_holm": d.p_holm,
        "p_tost_holm": d.p_tost_holm,
        "family": one.claim.family,
        "comparisons": d.family,
        "verdict": d.verdict,
        "decided_by": d.decided_by,
        "seeds_needed": d.seeds_needed,
        "noise": c.noise,
        "answer": c.answer,
    }


def as_markdown(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided], pictures: str = "figures") -> str:
    """The table of verdicts, and a table and a picture a claim, which is in the folder ``pictures``."""
    lines = ["| claim | answer | seeds |", "|---|---|---|"]
    for one in decided:
        seeds = f"{one.seeds} of {one.claim.seeds}"
        lines.append(f"| [{_cell(one.claim.says)}](#{one.claim.name}) | {one.says} | {seeds} |")
    for one in decided:
        lines += ["", f"### {one.claim.name}", "", f"{one.claim.says} **{one.says}.**", ""]
        lines += [
            "| arm | against | measure | expected | difference, 95 % interval | margin | p | noise | verdict |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for c in one.comparisons:
            d = c.found
            cells = [d.group.label, d.baseline.label, d.metric.name, c.expected, difference_text(d) or "—"]
            cells += [margin_text(d.metric), p_value(d.p_holm) or "—", noise_text(c), f"{d.says} n={d.n}"]
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        if (figure := forest(one)) is not None:
            lines += ["", f"![The differences above in multiples of their margins]({pictures}/{figure.slug}.svg)"]
        lines += ["", f"*What would change it:* {one.claim.changes}"]
    lines += ["", *(f"*{line}*" for line in notes(plan, rows))]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _put_into(page: Path, table: str, figures: Mapping[str, bytes]) -> None:
    """Put ``table`` between the markers of ``page``, in the place of what is there, and ``figures`` beside it."""
    if not page.suffix:
        raise ConfigError(f"--page {page}: expected a page with a suffix, as {page.name}.md; the name is its figures'")
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--page {page}: cannot be read ({error})") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"--page {page}: expected the lines {BEGIN} and {END}")
    _write_figures(page.with_suffix(""), figures)
    with atomic(page) as file:
        file.write(f"{before}{BEGIN}\n\n{table}\n{END}{after}".encode())


def noise_text(c: Compared) -> str:
    """The noise floor on the scale of the margin."""
    if c.noise is None:
        return "—"
    return f"±{c.noise:.1%}" if c.found.scale == "log_ratio" else f"±{number(c.noise)}"


def notes(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What a reader has to know of the rows: how many of those planned there are, and under which plan they ran."""
    out = [f"{len(rows)} of {len(plan.asked())} planned runs."]
    if plans := sorted({row.facts["plan"] or "none" for row in rows} - {plan.digest}):
        earlier = sum(row.facts["plan"] != plan.digest for row in rows)
        out.append(f"The plan changed after runs had begun: {earlier} of them are of {', '.join(plans)}.")
    known = {row.place: row.facts for row in rows}
    return out + [line for claim in plan.claims if (line := _unlike(claim, known))]


def _unlike(claim: Claim, known: Mapping[tuple[str, int], Mapping[str, str]]) -> str:
    """What the two sides of some pair of ``claim`` do not share, beside what they are compared in."""
    found: dict[str, set[int]] = {}
    for seed in {seed for _, seed in known}:
        sides = [[known.get((arm, seed)) for arm in side.arms] for side in (claim.baseline, *claim.sides)]
        for side in sides[1:]:
            both = [facts for facts in (*sides[0], *side) if facts is not None]
            for fact, words in SHARED.items() if len(both) == len(sides[0]) + len(side) else ():
                if len({facts[fact] for facts in both}) > 1:
                    found.setdefault(words, set()).add(seed)
    what = [f"{words} (seed{'s' * (len(of) > 1)} {', '.join(map(str, sorted(of)))})" for words, of in found.items()]
    return f"{claim.name}: the two sides differ in {', '.join(what)}." if what else ""


def page(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided]) -> str:
    """report.html: one file that needs nothing else and runs nothing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(difference=difference_text, p=p_value, margin=margin_text)
    return environment.get_template("study.html.j2").render(
        plan=plan,
        decided=decided,
        css=Markup(page_css()),
        forest=forest,
        noise=noise_text,
        notes=notes(plan, rows),
        colours=COLOURS,
    )
