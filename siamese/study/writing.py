"""The files of a study beside its plan: tests.csv, table.md, report.html and a figure a claim. All are made of runs.csv
and plan.yaml alone, so that whoever has these two can make the others again."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from siamese.compare.standalone import standalone
from siamese.compare.theme import page_css
from siamese.compare.wording import difference_text, margin_text, number, p_value
from siamese.errors import ConfigError
from siamese.runs.files import atomic
from siamese.study.picture import forest, overview
from siamese.study.plan import Plan
from siamese.study.rows import Row
from siamese.study.verdicts import Answer, Compared, Decided

BEGIN, END = "<!-- study: begin -->", "<!-- study: end -->"  # of the tables in a page
TESTS = (
    "claim", "arm", "baseline", "metric", "expected", "n", "scale", "margin", "mean", "low", "high", "p_t",
    "p_sign_flip", "p_tost", "p_holm", "p_tost_holm", "family", "comparisons", "verdict", "decided_by", "seeds_needed",
    "noise", "answer",
)  # fmt: skip


def write(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided], *, paper: bool = False) -> list[str]:
    """Write every file beside the plan, and return their names; where ``paper``, figures as PNG and PDF too.

    Raises:
        RunError: when a file cannot be written.
    """
    folder = plan.path.parent
    drawn = [f for f in (overview(plan, decided), *map(forest, decided)) if f is not None]
    figures = {f"{f.slug}.svg": standalone(f).encode() for f in drawn}
    if paper:
        from siamese.compare.paper import as_paper  # slow to import

        figures |= {f"{f.slug}.{kind}": content for f in drawn for kind, content in as_paper(f)[0].items()}
    texts = {"tests.csv": comparisons_csv(decided), "table.md": as_markdown(plan, rows, decided)}
    texts |= {"report.html": page(plan, rows, decided)}
    contents = {name: text.encode() for name, text in texts.items()}
    contents |= {f"figures/{name}": content for name, content in figures.items()}
    for name, content in contents.items():
        with atomic(folder / name) as file:
            file.write(content)
    for old in (folder / "figures").glob("*"):  # of earlier rows
        if old.suffix in (".svg", ".png", ".pdf") and old.name not in figures:
            old.unlink()
    return ["report.html", "tests.csv", "table.md", *["figures/"] * bool(figures)]


def comparisons_csv(decided: Sequence[Decided]) -> str:
    """Every comparison, a line each, numbers to the last bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TESTS)
    for one in decided:
        for c in one.comparisons:
            d = c.found
            low, high = d.interval or (None, None)
            margin = d.metric.margin
            values = [
                one.claim.name, d.group.label, d.baseline.label, d.metric.name, c.expected, d.n, d.scale,
                margin.size if margin else None, d.mean, low, high, d.p_t, d.p_sign_flip, d.p_tost, d.p_holm,
                d.p_tost_holm, one.claim.family, d.family, d.verdict, d.decided_by, d.seeds_needed, c.noise, c.answer,
            ]  # fmt: skip
            writer.writerow(["" if v is None else repr(v) if isinstance(v, float) else str(v) for v in values])
    return text.getvalue()


def as_markdown(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided]) -> str:
    """The table of verdicts, and a table a claim."""
    lines = ["| claim | answer | seeds |", "|---|---|---|"]
    for one in decided:
        seeds = f"{one.seeds} of {one.claim.seeds}"
        lines.append(f"| [{one.claim.says}](#{one.claim.name}) | {one.answer} | {seeds} |")
    for one in decided:
        lines += ["", f"### {one.claim.name}", "", f"{one.claim.says} **{one.answer}.**", ""]
        lines += [
            "| arm | against | measure | expected | difference, 95 % interval | margin | p | noise | verdict |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for c in one.comparisons:
            d = c.found
            cells = [d.group.label, d.baseline.label, d.metric.name, c.expected, difference_text(d) or "—"]
            cells += [margin_text(d.metric), p_value(d.p_holm) or "—", noise_text(c), f"{d.says} n={d.n}"]
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", f"*What would change it:* {one.claim.changes}"]
    lines += ["", *(f"*{line}*" for line in notes(plan, rows))]
    return "\n".join(lines) + "\n"


def put_into(page: Path, table: str) -> None:
    """Put ``table`` between the markers of ``page``, in the place of what is there.

    Raises:
        ConfigError: for a file without the two markers, in this order.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--page {page}: cannot be read ({error})") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"--page {page}: expected the lines {BEGIN} and {END}")
    with atomic(page) as file:
        file.write(f"{before}{BEGIN}\n\n{table}\n{END}{after}".encode())


def noise_text(c: Compared) -> str:
    """The noise floor on the scale of the margin."""
    if c.noise is None:
        return "—"
    return f"±{c.noise:.1%}" if c.found.scale == "log_ratio" else f"±{number(c.noise)}"


def notes(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What a reader has to know of the rows: how many of those planned there are, and under which plan they ran."""
    asked = len(plan.asked())
    seconds = sum(float(row.facts["seconds"]) for row in rows)
    out = [f"{len(rows)} of {asked} planned runs, {seconds / 3600:.1f} hours of training and validation."]
    if plans := sorted({row.facts["plan"] for row in rows} - {plan.digest}):
        earlier = sum(row.facts["plan"] != plan.digest for row in rows)
        out.append(f"The plan changed after runs had begun: {earlier} of them are of {', '.join(plans)}.")
    return out


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
        tones={Answer.HOLDS: "equivalent", Answer.FAILS: "different", Answer.OPEN: "inconclusive"},
    )
