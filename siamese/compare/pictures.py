"""The drawings of what runs stored as arrays: class distances, projections, nearest neighbours.

Every function returns what can be shown and, in words, what cannot and why.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from siamese.compare.comparison import Comparison
from siamese.compare.figure import Figure
from siamese.compare.grouping import Group
from siamese.compare.svg import WIDTH, Axes, Drawing, short
from siamese.evaluation.projection import LEAST, ellipse, fit_projection
from siamese.palette import CLASSES, LESS, MORE, rgb
from siamese.runs.run import Run

MOST_PANELS = 24  # groups that get pictures of their own
MOST_CELLS = 12  # classes up to which a distance matrix shows its numbers
LETTERS = 11  # of the name of a class beside the cells
MOST_SQUARE = 1000  # classes up to which distances are drawn; the matrix of ten thousand has 800 MB
MOST_ELLIPSES = 40  # classes of a projection
MOST_DOTS = 600  # of a projection
COVERAGE = 0.5  # share of a class that its ellipse covers
CORNERS = 36  # of the line that draws an ellipse
TILE = 64  # pixels, at most, of an image in a gallery
QUERIES, NEIGHBOURS = 10, 8


@dataclass(frozen=True)
class Matrices:
    """Class distances of each group as a drawing, and of each compared group less its baseline."""

    own: dict[int, Figure]  # by group number
    less_baseline: dict[int, Figure]
    missing: list[str]


@dataclass(frozen=True)
class Strip:
    """The neighbours of one query in one group's run, as one image side by side."""

    group: Group
    image: str  # data URI
    labels: list[tuple[str, bool]]  # class and whether it is the query's


@dataclass(frozen=True)
class Query:
    name: str  # class of the query
    image: str
    strips: list[Strip]


def representatives(c: Comparison) -> dict[Group, Run]:
    """One run a group for what cannot be averaged: that of the first seed which most groups share."""
    count: dict[tuple[str, ...], int] = {}
    for group in c.groups:
        for unit in group.runs:
            count[unit] = count.get(unit, 0) + 1
    order = sorted(count, key=lambda u: -count[u])  # stable: ties stay in the order of seeds
    return {g: g.runs[next(u for u in order if u in g.runs)][-1] for g in c.groups[:MOST_PANELS]}


# -- class distances ---------------------------------------------------------------------------


def matrices(c: Comparison, part: str) -> Matrices:
    """Mean cosine distances between classes [C, C], averaged over a group's runs; one scale for all groups, and one,
    centred at zero, for all differences."""
    means: dict[Group, np.ndarray] = {}
    names: list[str] = []
    missing = []
    for group in c.groups[:MOST_PANELS]:
        found = []
        for run in group.members:
            if max(run.shape(f"distances_{part}", "matrix") or (0,)) > MOST_SQUARE:
                return Matrices({}, {}, [f"more than the {MOST_SQUARE:,} classes that are drawn"])
            arrays = run.arrays(f"distances_{part}", "matrix")
            square = arrays is not None and arrays["matrix"].ndim == 2 and len(set(arrays["matrix"].shape)) == 1
            if arrays is None or not square:
                missing.append(run.name)
            else:
                found.append(arrays["matrix"].astype(np.float64))
                names = names or class_names(run, len(found[-1]))
        if found and len({m.shape for m in found}) == 1:
            means[group] = np.mean(found, 0)
    shapes = {m.shape for m in means.values()}
    if len(shapes) > 1:
        return Matrices({}, {}, [f"class counts differ: {', '.join(str(s[0]) for s in sorted(shapes))}"])
    if not means:
        return Matrices({}, {}, missing)
    there = np.all([np.isfinite(m).any(1) for m in means.values()], axis=0)
    if not there.any():
        return Matrices({}, {}, [*missing, f"no class is among the {part} images of every run"])
    means = {g: m[np.ix_(there, there)] for g, m in means.items()}
    names = [name for name, kept in zip(names, there, strict=True) if kept]
    low = float(min(np.nanmin(m) for m in means.values()))
    high = float(max(np.nanmax(m) for m in means.values()))
    pairs = {d.group: d.baseline for d in c.differences}
    less = {g: means[g] - means[b] for g, b in pairs.items() if g in means and b in means}
    most = max((float(np.nanmax(np.abs(m))) for m in less.values()), default=1.0) or 1.0
    own_figures = {
        g.number: Figure(
            f"distances_{g.letter}",
            f"{g.letter}",
            _matrix(m, names, low, high, f"{g.letter}: {g.label}"),
            f"Class distances of {part} images, {g.letter}: {g.label}",
        )
        for g, m in means.items()
    }
    less_figures = {
        g.number: Figure(
            f"distances_{g.letter}_less_{pairs[g].letter}",
            f"{g.letter} − {pairs[g].letter}",
            _matrix(m, names, -most, most, f"{g.letter} − {pairs[g].letter}"),
            f"Class distances of {part} images, {g.letter}: {g.label} − {pairs[g].letter}: {pairs[g].label}; "
            "blue where larger, orange where smaller",
        )
        for g, m in less.items()
    }
    return Matrices(own_figures, less_figures, missing)


def _matrix(matrix: np.ndarray, names: Sequence[str], low: float, high: float, label: str) -> Markup:
    """Cells by opacity of one hue; on a range around zero, of two."""
    shown = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    n, left, top = len(matrix), 78, 70
    side = (WIDTH - left - 4) / n
    d = Drawing(WIDTH, top + side * n + 6, f"class distances, {label}", "matrix")
    diverging = low < 0 and math.isclose(-low, high)
    share = np.abs(matrix) / high if diverging else (matrix - low) / ((high - low) or 1.0)
    less = (matrix < 0) & diverging
    if n > MOST_CELLS:
        hue = np.where(less[..., None], rgb(LESS), rgb(MORE))
        alpha = np.nan_to_num(20 + 235 * share).clip(0, 255)
        pixels = Image.fromarray(np.concatenate([hue, alpha[..., None]], 2).astype(np.uint8), "RGBA")
        box = {"x": left, "y": top, "width": short(side * n), "height": short(side * n)}
        d.add("image", href=_uri(pixels, "PNG"), css="pixels", **box)
        d.text(left + side * n / 2, top - 8, f"{n} classes, in their order", css="name")
        return d.markup()
    for i, name in enumerate(shown[:n]):
        x, y = left + side * (i + 0.5), top + side * (i + 0.5)
        d.text(left - 5, y + 3.5, name, css="tick", anchor="end")
        turned = f"rotate(-55 {short(x)} {short(top - 5)})"
        d.text(x + 3, top - 5, name, css="tick", anchor="start", transform=turned)
    for i, j in np.argwhere(~np.isnan(matrix)):
        x, y = left + side * j, top + side * i
        opacity = f"{0.03 + 0.87 * share[i, j]:.2f}"
        d.box(x + 0.5, y + 0.5, side - 1, side - 1, "cell less" if less[i, j] else "cell", rx=2, fill_opacity=opacity)
        text = re.sub("^(−?)0[.]", r"\1.", f"{matrix[i, j]:z.2f}".replace("-", "−"))
        d.text(x + side / 2, y + side / 2 + 3, text, css="tiny on" if share[i, j] > 0.6 else "tiny")
    return d.markup()


# -- projections -------------------------------------------------------------------------------


def projections(c: Comparison, part: str) -> tuple[list[Figure], list[str], list[str]]:
    """A panel a group: its run's embeddings in the plane of the first two principal components of all groups'
    embeddings pooled, every class (of many, those with the most images) with the ellipse around its median that covers
    half of it. Also the names of these classes, and what is missing."""
    found: dict[Group, tuple[np.ndarray, np.ndarray]] = {}
    missing: list[str] = []
    names: list[str] = []
    drawn: list[int] = []
    for group, run in representatives(c).items():
        arrays = run.arrays(part, "embeddings", "labels")
        if arrays is None or arrays["embeddings"].ndim != 2 or len(arrays["labels"]) != len(arrays["embeddings"]):
            missing.append(run.name)
            continue
        found[group] = arrays["embeddings"].astype(np.float64), arrays["labels"]
        if not names:
            names = class_names(run, int(arrays["labels"].max(initial=0)) + 1)
            drawn = _largest(arrays["labels"], len(names))
    dimensions = {z.shape[1] for z, _ in found.values()}
    if len(dimensions) > 1:
        return [], names, [f"embeddings differ in dimension: {', '.join(map(str, sorted(dimensions)))}"]
    if not found:
        return [], names, missing
    try:
        plane = fit_projection(*(z for z, _ in found.values()))
    except ValueError as error:
        return [], names, [str(error)]
    shares, points = plane.explained_variance_ratio, {g: plane(z) for g, (z, _) in found.items()}
    ends = np.array([[p.min(0), p.max(0)] for p in points.values()])
    low, high = ends[:, 0].min(0), ends[:, 1].max(0)
    out = []
    for group, at in points.items():
        labels = found[group][1]
        d = Drawing(WIDTH, WIDTH * 0.92, f"projection, {group.letter}", "projection")
        first, second = (f"PC {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1))
        axes = Axes(d, (low[0], high[0]), (low[1], high[1]), (first, second))
        step = max(1, math.ceil(len(at) / MOST_DOTS))
        for place, k in enumerate(drawn):
            own = at[labels == k]
            if len(own) < LEAST:
                continue
            d.open(css=f"class c{place % len(CLASSES)}")
            d.add("title", names[k])
            axes.dots(own[::step], "dots")
            d.add("path", d=axes.path(*ellipse(own, COVERAGE).outline(CORNERS).T) + "Z", css="ellipse")
            d.close()
        classes = tuple((f"c{place % len(CLASSES)}", names[k]) for place, k in enumerate(drawn))
        title = f"{group.letter}: {group.label}"
        out.append(Figure(f"projection_{group.letter}", title, d.markup(), f"Projection, {title}", classes))
    return out, [names[k] for k in drawn], missing


def _largest(labels: np.ndarray, classes: int) -> list[int]:
    """The classes that a projection shows: those with the most images, in their order."""
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    return sorted(np.argsort(-counts, kind="stable")[:MOST_ELLIPSES].tolist())


# -- galleries ---------------------------------------------------------------------------------


def galleries(c: Comparison, part: str) -> tuple[list[Query], list[str]]:
    """The same queries in every group's run, each with its nearest neighbours; and what is missing."""
    keys = ("query_ids", "query_labels", "query_images", "neighbour_labels", "neighbour_images")
    found, missing = {}, []
    for group, run in representatives(c).items():
        arrays = run.arrays(f"gallery_{part}", *keys)
        good = arrays is not None and arrays["neighbour_images"].ndim == 5 and arrays["query_images"].ndim == 4
        if arrays is None or not good:
            missing.append(run.name)
        else:
            found[group] = (run, arrays)
    if not found:
        return [], missing
    places = {g: {str(q): i for i, q in enumerate(arrays["query_ids"])} for g, (_, arrays) in found.items()}
    shared = [q for q in next(iter(places.values())) if all(q in other for other in places.values())]
    if not shared:
        return [], [*missing, "no query image is shared by the groups"]
    queries = []
    for query in shared[:QUERIES]:
        strips, name, image = [], "", ""
        for group, (run, arrays) in found.items():
            i = places[group][query]
            label = int(arrays["query_labels"][i])
            neighbours = arrays["neighbour_labels"][i][:NEIGHBOURS].astype(int)
            names = class_names(run, int(max(label, neighbours.max(initial=0))) + 1)
            name = name or names[label]
            image = image or _uri(_tile(arrays["query_images"][i]), "WEBP")
            tiles = [_tile(picture) for picture in arrays["neighbour_images"][i][:NEIGHBOURS]]
            strips.append(Strip(group, _side_by_side(tiles), [(names[n], bool(n == label)) for n in neighbours]))
        queries.append(Query(name, image, strips))
    return queries, missing


def class_names(run: Run, count: int) -> list[str]:
    """The names in the manifest, or numbers where there are fewer than ``count``."""
    data = run.manifest.get("data")
    names = data.get("classes") if isinstance(data, dict) else None
    known = [str(name) for name in names] if isinstance(names, list) else []
    return known if len(known) >= count else [str(i) for i in range(count)]


def _tile(pixels: np.ndarray) -> Image.Image:
    """One image [3, H, W] at most 64 pixels wide and high."""
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0).astype(np.uint8)))
    if max(image.size) > TILE:
        image.thumbnail((TILE, TILE))
    return image


def _side_by_side(tiles: Sequence[Image.Image], gap: int = 2) -> str:
    width, height = tiles[0].size
    strip = Image.new("RGBA", ((width + gap) * len(tiles) - gap, height))
    for i, tile in enumerate(tiles):
        strip.paste(tile, ((width + gap) * i, 0))
    return _uri(strip, "WEBP")


def _uri(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 88, "method": 4} if kind == "WEBP" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
