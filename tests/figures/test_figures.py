"""What the figures show, read from their artists; that nothing in them is cut off; that they are told apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.text import Text
from PIL import Image
from support.processes import ROOT

from siamese import figures
from siamese.errors import RunError
from siamese.evaluator.report import draw
from siamese.figures.style import class_style
from siamese.palette import OTHER, SAME
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import release

NAMES = {
    1: ["only"],
    2: ["cat", "dog"],
    7: ["$50%_$100", "_hidden", "two\nlines", "$$", "\\alpha", "100% & more", "{x}^2"],
    10: "airplane automobile bird cat deer dog frog horse ship truck".split(),
    23: [f"a class with a long name {i}" for i in range(23)],
}
CLASSES = sorted(NAMES)
MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def write_arrays(run: Path, classes: int, parts: Sequence[str] = ("validation", "test")) -> None:
    """Arrays as an evaluated run leaves them, of ``classes`` classes."""
    random, names = np.random.default_rng(0), NAMES[classes]
    labels = np.repeat(np.arange(classes), 12)
    points = random.normal(labels[:, None], 0.4, (len(labels), 2)).astype(np.float32)

    def save(name: str, **arrays: object) -> None:
        (run / "arrays").mkdir(parents=True, exist_ok=True)
        np.savez(run / "arrays" / f"{name}.npz", **{k: np.asarray(v) for k, v in arrays.items()})

    def pictures(*shape: int) -> np.ndarray:
        return random.integers(0, 256, (*shape, 3, 8, 8), dtype=np.uint8)

    save(
        "samples",
        images=pictures(2 * classes),
        labels=np.repeat(np.arange(classes), 2),
        class_names=names,
        triplet_images=pictures(4, 3),
        triplet_labels=random.integers(0, classes, (4, 3)),
        triplet_distances=random.uniform(0, 2, (4, 2)),
    )
    for part in parts:
        save(part, embeddings=points, labels=labels, class_names=names)
        save(f"roc_{part}", fpr=[0, 0, 0.004, 0.1, 1], tpr=[0, 0.2, 0.5, 0.9, 1])
        save(f"spectrum_{part}", singular_values=[4.0, 2.0, 1.0, 0.0])
        save(f"histogram_{part}", edges=[-1, 0, 0.5, 1], positive=[1, 2, 5], negative=[6, 2, 0])
        if classes <= 1000:  # beyond, an evaluation leaves the nearest classes
            save(f"distances_{part}", matrix=random.uniform(0, 1.5, (classes, classes)))
        save(
            f"projection_{part}",
            points=points,
            explained_variance_ratio=[0.5, 0.25],
            centres=points.reshape(classes, 12, 2).mean(1),
            widths=np.full(classes, 1.2),
            heights=np.full(classes, 0.7),
            angles=np.linspace(0, np.pi, classes),
        )
        save(
            f"gallery_{part}",
            query_images=pictures(classes),
            query_labels=np.arange(classes),
            neighbour_images=pictures(classes, 4),
            neighbour_labels=random.integers(0, classes, (classes, 4)),
            cosines=np.sort(random.uniform(-1, 1, (classes, 4)))[:, ::-1],
        )
        save(
            f"hardest_{part}",
            images=pictures(7, 3),
            labels=random.integers(0, classes, (7, 3)),
            distances=random.uniform(0, 2, (7, 2)),
        )
    header = "epoch,train/loss,train/triplet,train/koleo,val/loss,val/triplet,val/koleo,val/auc"
    header += ",val/recall_at_1,val/recall_at_5"
    (run / "metrics.csv").write_text(
        f"{header}\n0,,,,2,1.5,5,0.5,,\n1,1,0.5,5,1.1,.6,5,0.8,0.3,0.6\n2,0.8,.3,5,1.3,.8,5,.7,,\n"
    )


class Drawn(NamedTuple):
    """The figures of a run of so many classes, and what was written into each."""

    classes: int
    figures: dict[str, Figure]
    texts: dict[str, list[Text]]


@pytest.fixture(scope="module", params=CLASSES)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    run = tmp_path_factory.mktemp("run")
    write_arrays(run, request.param, parts=["test"])
    seen: list[Text] = []
    draw = Text.draw

    def noting(self: Text, renderer: RendererBase) -> None:
        if self.get_visible() and self.get_text().strip():
            seen.append(self)
        draw(self, renderer)

    found, texts = dict(figures.from_arrays(run)), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noting)
        for name, figure in found.items():
            seen.clear()
            FigureCanvasAgg(figure).draw()
            texts[name] = list(dict.fromkeys(seen))
    return Drawn(request.param, found, texts)


ALWAYS = {"samples", "triplets", "loss_curves", "metric_curves", "roc", "spectrum"}
OF_A_PART = "similarities distances projection projection_normalised gallery hardest".split()


def test_a_figure_of_every_array(drawn: Drawn) -> None:
    assert set(drawn.figures) == ALWAYS | {f"{name}_test" for name in OF_A_PART}


def test_no_text_is_cut_off_or_on_another(drawn: Drawn) -> None:
    for name, figure in drawn.figures.items():
        texts = drawn.texts[name]
        assert texts
        boxes = np.array([text.get_window_extent().extents for text in texts])
        inside = (boxes[:, :2] >= -0.5).all(1) & (boxes[:, 2:] <= figure.bbox.max + 0.5).all(1)
        assert inside.all(), f"{name}: {[t.get_text() for t, i in zip(texts, inside, strict=True) if not i]} cut off"
        level = [text.get_rotation() == 0 for text in texts]  # a slanted text's box is larger than its ink
        shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        one, other = np.nonzero(np.triu((shared > 1).all(2) & np.outer(level, level), 1))
        on = [(texts[i].get_text(), texts[j].get_text()) for i, j in zip(one, other, strict=True)]
        assert not on, f"{name}: {on} lie on each other"


def test_a_class_looks_the_same_in_every_figure(drawn: Drawn) -> None:
    classes, found, _ = drawn
    for label in range(classes):
        style = class_style(label, 1)
        for name in ("samples", "distances_test", "projection_test", "projection_normalised_test", "gallery_test"):
            lines = [line for line in found[name].findobj(Line2D) if line.get_marker() == style["marker"]]
            faces = {line.get_markerfacecolor() for line in lines}
            assert style["markerfacecolor"] in faces, f"{name}: class {label}"


def test_220_classes_look_different() -> None:
    styles = [class_style(label, 1) for label in range(220)]
    assert len({(s["marker"], s["markerfacecolor"], s["color"]) for s in styles}) == 220


def test_ten_classes_stay_apart_with_any_colour_vision() -> None:
    """CIELAB distances of the colours as seen without red, green or blue cones (Machado et al. 2009)."""
    blind = {
        "none missing": np.eye(3),
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
        "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    }
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

    def lab(linear: np.ndarray) -> np.ndarray:
        t = linear @ xyz.T / xyz.sum(1)
        x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29).T
        return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)

    srgb = np.array([to_rgb(class_style(i, 1)["color"]) for i in range(10)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    white = lab(np.ones((1, 3)))
    for name, matrix in blind.items():
        seen = lab((linear @ np.asarray(matrix).T).clip(0, 1))
        apart = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
        assert min(apart) > 15, name
        assert np.linalg.norm(seen - white, axis=1).min() > 15, f"{name}: on white"


# -- what each shows -------------------------------------------------------------------------------


def lines(figure: Figure, panel: int) -> dict[str, tuple[list[float], list[float]]]:
    found = [line for line in figure.axes[panel].lines if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in found}


def test_loss_curves_show_total_and_terms_of_both_splits() -> None:
    rows = [
        {"epoch": "0", "train/loss": "", "val/loss": "2.0", "train/a": "", "val/a": "1.0"},
        {"epoch": "1", "train/loss": "1.5", "val/loss": "1.25", "train/a": "0.5", "val/a": "0.25"},
    ]
    figure = figures.loss_curves(rows, ["loss", "a", "koleo"])
    assert [axis.get_title() for axis in figure.axes] == ["total loss", "a", "koleo"]
    assert lines(figure, 0) == {"training": ([1], [1.5]), "validation": ([0, 1], [2.0, 1.25])}
    assert lines(figure, 1) == {"training": ([1], [0.5]), "validation": ([0, 1], [1.0, 0.25])}
    assert len(figures.loss_curves(rows, ["loss", "a"]).axes) == 1  # a lone term is the loss


def test_how_many_embeddings_the_loss_saw_is_no_loss(tmp_path: Path) -> None:
    rows = "epoch,train/loss,train/a,train/b,train/embeddings,val/loss,val/a,val/b\n0,,,,,2,1,1\n1,2,1,1,192,2,1,1\n"
    (tmp_path / "metrics.csv").write_text(rows)
    found = dict(figures.from_arrays(tmp_path))
    assert list(found) == ["loss_curves"]
    assert [axis.get_title() for axis in found["loss_curves"].axes] == ["total loss", "a", "b"]


def test_metric_curves_gather_relatives_and_leave_losses_out() -> None:
    rows = [
        {"epoch": "0", "val/loss": "1", "train/loss": "", "val/auc": "0.5", "val/knn_1": "0.1", "val/knn_5": ""},
        {"epoch": "1", "val/loss": "1", "train/loss": "1", "val/auc": "0.75", "val/knn_1": "0.2", "val/knn_5": "0.4"},
    ]
    rows[1] |= {"val/intra_distance": "0.25", "val/separation": "0.5", "val/separation_std": "1", "val/area/cat": "7"}
    figure = figures.metric_curves(rows)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["auc", "kNN accuracy", "class distances", "class distances, spread"]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.5, 0.75]
    assert lines(figure, 1) == {"1": ([0, 1], [0.1, 0.2]), "5": ([1], [0.4])}
    assert lines(figure, 2) == {"intra": ([1], [0.25]), "separation": ([1], [0.5])}


def test_roc_has_a_linear_and_a_logarithmic_axis(drawn: Drawn) -> None:
    linear, logarithmic = drawn.figures["roc"].axes
    assert (linear.get_xscale(), logarithmic.get_xscale()) == ("linear", "log")
    assert logarithmic.get_xlim() == (1e-3, 1)
    area = 0.004 * 0.35 + 0.096 * 0.7 + 0.9 * 0.95
    assert [t.get_text() for t in linear.get_legend().get_texts()][1] == f"test, AUC {area:.3f}"
    for axis in (linear, logarithmic):
        assert axis.lines[1].get_ydata().tolist() == [0, 0.2, 0.5, 0.9, 1]


def test_the_distance_matrix_writes_every_cell_where_they_can_be_read() -> None:
    matrix = np.array([[0.1, 1.234], [1.234, np.nan]])
    axis = figures.distance_matrix(matrix, ["cat", "dog"], "test").axes[0]
    assert [(t.get_text(), t.get_position()) for t in axis.texts] == [
        ("0.10", (0, 0)),
        ("1.23", (1, 0)),
        ("1.23", (0, 1)),
        ("–", (1, 1)),
    ]
    assert [t.get_color() for t in axis.texts] == ["white", "black", "black", "black"]
    assert np.array_equal(axis.images[0].get_array().filled(np.nan), matrix, equal_nan=True)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cat", "dog"]
    many = figures.distance_matrix(np.ones((40, 40)), [str(i) for i in range(40)], "test").axes[0]
    assert not many.texts
    assert len(many.get_yticks()) == 40


@pytest.mark.parametrize(("low", "high", "says"), [(0.03, 0.05, True), (0.0, 0.3, False), (0.2, 1.6, False)])
def test_the_colours_of_distances_begin_at_0_and_near_collapse_is_said(low: float, high: float, says: bool) -> None:
    matrix = np.random.default_rng(0).uniform(low, high, (6, 6))
    axis = figures.distance_matrix(matrix, list("abcdef"), "test").axes[0]
    assert axis.images[0].get_clim() == (0, max(0.5, matrix.max()))
    assert (f"nearly collapsed: none is farther than {matrix.max():.3f}" in axis.get_title()) == says
    colours = axis.images[0].cmap(axis.images[0].norm(matrix))[..., :3]
    assert (
        np.ptp(colours, axis=(0, 1)).max() < 0.1
    ) == says  # the differences of a collapse are not made to look large


def nearest_pairs(matrix: np.ndarray) -> list[tuple[int, int]]:
    return sorted(combinations(range(len(matrix)), 2), key=lambda pair: float(matrix[pair]))


def apart(classes: int, seed: int = 0) -> np.ndarray:
    """Distances [C, C] between so many classes."""
    z = np.random.default_rng(seed).normal(size=(classes, 8))
    return np.linalg.norm(z[:, None] - z[None], axis=2) / 8


def test_of_many_classes_the_matrix_shows_the_most_confused() -> None:
    matrix = apart(60)
    matrix[7], matrix[:, 7] = np.nan, np.nan  # no image of it is in this part
    names = [f"class {i}" for i in range(60)]
    axis = figures.distance_matrix(matrix, names, "test").axes[0]
    expected: dict[int, None] = {}
    for one, other in nearest_pairs(np.where(np.isnan(matrix), np.inf, matrix)):
        if len(expected) >= 24:
            break
        expected |= {one: None, other: None}
    shown = [names.index(label.get_text()) for label in axis.get_yticklabels()]
    assert shown == sorted(expected)
    assert np.array_equal(axis.images[0].get_array(), matrix[np.ix_(shown, shown)])
    assert axis.get_title().endswith("24 of 59 classes, the most confused")
    markers = {line.get_xdata()[0]: line.get_marker() for line in axis.lines if line.get_ydata()[0] == 0}
    assert [markers[place] for place in range(24)] == [class_style(label, 1)["marker"] for label in shown]


@pytest.mark.parametrize("classes", [3, 60])
def test_too_many_classes_for_a_matrix_are_the_pairs_nearest_to_each_other(classes: int) -> None:
    matrix = apart(classes)
    np.fill_diagonal(matrix, np.inf)
    nearest = np.argsort(matrix, axis=1)[:, :10]
    distances = np.take_along_axis(matrix, nearest, 1)
    distances[~np.isfinite(distances)] = np.nan
    axis = figures.nearest_classes(nearest, distances, [str(i) for i in range(classes)], "test").axes[0]
    expected = nearest_pairs(matrix)[:24]
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"{a}  –  {b}" for a, b in expected]
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([matrix[pair] for pair in expected])
    assert axis.get_xlim()[0] == 0
    assert axis.get_title().endswith(f"the {len(expected)} nearest pairs of {classes} classes")


@pytest.mark.parametrize("normalised", [False, True])
def test_the_projection_has_every_point_and_ellipses_where_their_points_are(normalised: bool) -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(400, 2)) * (3, 0.5) + (5, -2)
    labels = np.arange(400) % 3
    centre, angle = np.array([5.0, -2.0]), 0.3
    ellipses = {
        "centres": np.array([centre, centre + 1, (np.nan, np.nan)]),
        "widths": np.array([4.0, 1.0, np.nan]),
        "heights": np.array([1.0, 1.0, np.nan]),
        "angles": np.array([angle, 0.0, np.nan]),
    }
    figure = figures.projection(
        points, labels, ["a", "b", "c"], ellipses, np.array([0.75, 0.125]), "test", normalised=normalised
    )
    axis = figure.axes[0]
    low, span = points.min(0), np.ptp(points, 0)
    expected = (points - low) / span if normalised else points
    for label, line in enumerate(axis.lines[:3]):
        assert np.allclose(line.get_xydata(), expected[labels == label])
    outlines = [patch for patch in axis.patches if isinstance(patch, Ellipse)]
    assert len(outlines) == 2
    # the end of the first ellipse's width, where the angle says that it is
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    boundary = np.stack([2 * np.cos(t := np.linspace(0, 2 * np.pi, 2000)), 0.5 * np.sin(t)], 1) @ turned.T + centre
    boundary = (boundary - low) / span if normalised else boundary
    extents = axis.transData.inverted().transform_bbox(outlines[0].get_window_extent())
    assert np.allclose([extents.min, extents.max], [boundary.min(0), boundary.max(0)], atol=2e-2)
    assert axis.get_xlabel() == "PC 1 (75% of the variance)"


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5, -1.2])
def test_ellipses_are_inside_the_axes_and_say_what_they_hold(normalised: bool, angle: float) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (40, 2)) * (1, 0.2)
    ellipses = {
        "centres": np.array([[0.8, 0.1], [np.nan] * 2]),
        "widths": np.array([5.0, np.nan]),
        "heights": np.array([0.5, np.nan]),
        "angles": np.array([angle, np.nan]),
    }
    figure = figures.projection(
        points,
        np.zeros(40, int),
        ["a", "b"],
        ellipses,
        np.array([0.5, 0.25]),
        "test",
        normalised=normalised,
        coverage=0.5,
    )
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    (outline,) = axis.patches
    inner, box = outline.get_window_extent(), axis.get_window_extent()
    assert box.x0 < inner.x0 < inner.x1 < box.x1
    assert box.y0 < inner.y0 < inner.y1 < box.y1
    assert 0 < outline.get_facecolor()[3] < 0.2  # what is under it stays seen
    assert axis.get_title().endswith("each ellipse holds 50 % of its class")


def test_the_projection_of_many_classes_tells_some_apart_and_shows_all_points() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(50), np.arange(50) + 1)  # class 49 is the largest
    points = random.normal(size=(len(labels), 2))
    none = np.full(50, np.nan)
    ellipses = {"centres": np.full((50, 2), np.nan), "widths": none, "heights": none, "angles": none}
    names = [f"c{i}" for i in range(50)]
    figure = figures.projection(points, labels, names, ellipses, np.array([0.5, 0.25]), "test")
    axis, (legend,) = figure.axes[0], figure.legends
    assert axis.get_title().endswith("24 of 50 classes, the largest")
    assert [text.get_text() for text in legend.get_texts()] == [*names[26:], "other classes"]
    drawn = np.concatenate([line.get_xydata() for line in axis.lines])
    assert sorted(map(tuple, drawn)) == sorted(map(tuple, points))


def test_names_of_classes_without_an_image_are_not_in_the_key() -> None:
    none = np.full(3, np.nan)
    ellipses = {"centres": np.full((3, 2), np.nan), "widths": none, "heights": none, "angles": none}
    points = np.random.default_rng(0).normal(size=(6, 2))
    figure = figures.projection(points, np.array([0, 2] * 3), list("abc"), ellipses, np.array([0.5, 0.25]), "test")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c"]


def test_the_spectrum_is_sorted_and_relative() -> None:
    figure = figures.spectrum({"validation": np.array([1.0, 4.0, 2.0]), "test": np.zeros(3)})
    assert lines(figure, 0) == {"validation": ([1, 2, 3], [1.0, 0.5, 0.25]), "test": ([1, 2, 3], [0.0, 0.0, 0.0])}


def test_histograms_are_densities_with_their_means() -> None:
    axis = figures.similarity_histogram(
        np.array([-1.0, 0.0, 0.5, 1.0]), np.array([0, 1, 3]), np.array([9, 1, 0]), "test"
    ).axes[0]
    same, different = axis.patches[1], axis.patches[3]
    assert same.get_data().values.tolist() == [0.0, 0.5, 1.5]
    assert different.get_data().values.tolist() == pytest.approx([0.9, 0.2, 0.0])
    assert axis.get_xlim() == (-2.0, 1.5)  # what is occupied, and a bin on either side
    assert (same.get_edgecolor(), different.get_edgecolor()) != (different.get_edgecolor(), same.get_edgecolor())
    assert [t.get_text() for t in axis.get_legend().get_texts()] == [
        f"same class, mean {(0.25 + 0.75 * 3) / 4:.2f}",
        f"different classes, mean {(-0.5 * 9 + 0.25) / 10:.2f}",
    ]


def test_sample_grid_puts_images_in_the_line_of_their_class() -> None:
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((7, 3, 4, 4), np.uint8)
    figure = figures.sample_grid(images, np.array([0, 1, 0, 2, 2, 2, 0]), ["zero", "one", "two"])
    axis = figure.axes[0]
    lines_of = {t.get_text(): t.get_position()[1] for t in axis.texts}
    shown = sorted((im.get_extent()[3], im.get_extent()[0], int(im.get_array()[0, 0, 0])) for im in axis.images)
    assert [value for _, _, value in shown] == [0, 2, 6, 1, 3, 4, 5]
    for top, _, value in shown:
        name = ["zero", "one", "zero", "two", "two", "two", "zero"][value]
        assert top < lines_of[name] < top + 0.75


def test_the_samples_of_many_classes_are_those_of_the_largest() -> None:
    counts = np.array([3] * 30 + [0] + [5] * 29)
    labels = np.repeat(np.arange(60), np.minimum(counts, 2))
    images = np.zeros((len(labels), 3, 4, 4), np.uint8)
    names = [f"c{i}" for i in range(60)]
    axis = figures.sample_grid(images, labels, names, counts).axes[0]
    words = [text.get_text() for text in axis.texts]
    assert words == ["24 of 59 classes, the largest", *names[31:55]]
    assert len(axis.images) == 48


def test_triplets_have_their_distances_under_them() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(2, 3)[..., None, None, None] * np.ones((2, 3, 3, 4, 4), np.uint8)
    labels, distances = np.array([[0, 0, 1], [1, 1, 0]]), np.array([[0.25, 0.5], [0.75, 0.125]])
    axis = figures.triplet_grid(images, labels, distances, ["cat", "dog"]).axes[0]
    place = {int(im.get_array()[0, 0, 0]): im.get_extent() for im in axis.images}
    written = {t.get_position(): t.get_text() for t in axis.texts}
    for value, words in ((1, "distance 0.25"), (2, "distance 0.50"), (4, "distance 0.75"), (5, "distance 0.12")):
        left, _, bottom, _ = place[value]
        (found,) = [text for (x, y), text in written.items() if x == left and 0.2 < y - bottom < 0.5]
        assert found == words
    assert [im.get_extent()[0] for im in axis.images][:3] == sorted({im.get_extent()[0] for im in axis.images})
    assert "distance" not in "".join(
        t.get_text() for t in figures.triplet_grid(images, labels, distances * np.nan, ["cat", "dog"]).axes[0].texts
    )


def test_the_gallery_marks_right_and_wrong_neighbours() -> None:
    images = np.zeros((2, 3, 4, 4), np.uint8)
    figure = figures.gallery(
        images,
        np.array([0, 1]),
        np.zeros((2, 2, 3, 4, 4), np.uint8),
        np.array([[0, 1], [0, 1]]),
        np.array([[0.75, 0.5], [0.25, 0.125]]),
        ["cat", "dog"],
        "test",
    )
    axis = figure.axes[0]
    words = [t.get_text() for t in axis.texts]
    assert [w for w in words if w[0] in "✓✗"] == ["✓ 0.75", "✗ 0.50", "✗ 0.25", "✓ 0.12"]
    frames = [p for p in axis.patches if isinstance(p, Rectangle)]
    assert [to_hex(f.get_edgecolor()) for f in frames] == [SAME, OTHER, OTHER, SAME]
    assert [f.get_linestyle() == "solid" for f in frames] == [True, False, False, True]
    assert words.count("dog") == 2  # the second query's own name, and that of the wrong neighbour
    assert words.count("cat") == 2


# -- files -----------------------------------------------------------------------------------------


def test_the_same_arrays_give_the_same_files_and_nothing_stays_in_pyplot(tmp_path: Path) -> None:
    write_arrays(tmp_path, 2)
    for path in (tmp_path / "arrays").glob("*_test.npz"):
        if path.stem not in ("roc_test", "hardest_test"):
            path.unlink()
    run, files = RunDirectory(tmp_path), []
    for _ in range(2):
        drawn = {n: f for n, f in figures.from_arrays(tmp_path) if n in ("roc", "hardest_test")}
        assert len(drawn) == 2
        files.append({(n, kind): run.figure(n, f, kind).read_bytes() for n, f in drawn.items() for kind in MAGIC})
    release(tmp_path)
    assert files[0] == files[1]
    assert all(content.startswith(MAGIC[kind]) for (_, kind), content in files[0].items())
    assert plt.get_fignums() == []


def test_what_is_not_there_is_not_drawn(tmp_path: Path) -> None:
    assert list(figures.from_arrays(tmp_path)) == []
    write_arrays(tmp_path, 2)
    every = ALWAYS | {f"{name}_{part}" for name in OF_A_PART for part in ("validation", "test")}
    assert {name for name, _ in figures.from_arrays(tmp_path)} == every
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "arrays" / "gallery_test.npz").unlink()
    assert {name for name, _ in figures.from_arrays(tmp_path)} == every - {
        "loss_curves",
        "metric_curves",
        "gallery_test",
    }


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    write_arrays(tmp_path, 2)
    np.savez(tmp_path / "arrays" / "histogram_test.npz", edges=[0, 1], positive=[1])
    with pytest.raises(RunError, match=r"histogram_test.npz: negative is missing; expected edges, positive, negative"):
        list(figures.from_arrays(tmp_path))
    (tmp_path / "arrays" / "samples.npz").write_bytes(b"PK no zip")
    with pytest.raises(RunError, match=r"samples.npz: could not be read as arrays"):
        list(figures.from_arrays(tmp_path))
    np.savez(tmp_path / "arrays" / "samples.npz", images=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(RunError, match=r"samples\.npz"):
        list(figures.from_arrays(tmp_path))


def test_no_figure_is_written_larger_than_3000_pixels(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    sizes = {}
    for inches in ((40, 10), (4, 80), (6, 4)):
        with Image.open(run.figure("wide", Figure(figsize=inches))) as image:
            sizes[inches] = image.size
    release(tmp_path)
    assert sizes == {(40, 10): (3000, 750), (4, 80): (150, 3000), (6, 4): (900, 600)}


# -- many classes ----------------------------------------------------------------------------------


def write_many(run: Path, classes: int) -> None:
    """Arrays as an evaluated run of very many classes leaves them."""
    random = np.random.default_rng(0)
    NAMES[classes] = [f"$50%_$100 and more than fits {i}" for i in range(classes)]
    try:
        write_arrays(run, classes, parts=["test"])
    finally:
        names = NAMES.pop(classes)
    arrays, shown = run / "arrays", np.arange(24)

    def save(name: str, **values: object) -> None:
        np.savez(arrays / f"{name}.npz", **{k: np.asarray(v) for k, v in values.items()})

    with np.load(arrays / "gallery_test.npz") as stored:
        save("gallery_test", **{key: stored[key][:10] for key in stored.files})
    pictures = random.integers(0, 256, (24, 3, 8, 8), dtype=np.uint8)
    save("samples", images=pictures, labels=shown, class_names=names, class_counts=np.full(classes, 7))
    nearest = (np.arange(classes)[:, None] + np.arange(1, 11)) % classes
    save("distances_test", nearest=nearest, distances=np.sort(random.uniform(0, 1, (classes, 10))))


@pytest.mark.parametrize("classes", [1000, 11_000])
def test_figures_of_very_many_classes_stay_small(tmp_path: Path, classes: int) -> None:
    """In a process of its own, whose memory is that of the figures alone."""
    if classes == 1000:
        NAMES[classes] = [str(i) for i in range(classes)]
        write_arrays(tmp_path, classes, parts=["test"])  # with a whole matrix
        del NAMES[classes]
        with np.load(tmp_path / "arrays" / "gallery_test.npz") as stored:
            np.savez(tmp_path / "arrays" / "gallery_test.npz", **{key: stored[key][:10] for key in stored.files})
    else:
        write_many(tmp_path, classes)
    code = """
import resource, sys
from pathlib import Path
from siamese import figures
from siamese.runs.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for name, make in figures.drawings(run.path):
    figure = make()
    run.figure(name, figure)
    figure.clear()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300  # MB
    drawn = list((tmp_path / "figures").iterdir())
    assert len(drawn) == len(ALWAYS | set(OF_A_PART)) - (classes == 11_000)  # whose samples are without triplets
    for path in drawn:
        with Image.open(path) as image:
            assert max(image.size) <= 3000, path.name


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("of a figure"), RunError("a file: damaged")])
def test_a_figure_that_fails_costs_itself_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fails(**_: object) -> Figure:
        raise error

    write_arrays(tmp_path, 2, parts=["test"])
    monkeypatch.setattr("siamese.figures.redraw.gallery", fails)
    count, failed = draw(tmp_path, RunDirectory(tmp_path), "png")
    release(tmp_path)
    expected = (ALWAYS | {f"{name}_test" for name in OF_A_PART}) - {"gallery_test"}
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == expected
    assert (count, failed) == (len(expected), ["gallery_test"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("figures: gallery_test could not be drawn (")
    assert (str(error) or "MemoryError") in line
    assert "\n" not in line


def test_damaged_files_cost_the_figures_that_need_them(tmp_path: Path) -> None:
    write_arrays(tmp_path, 2, parts=["test"])
    for name in ("samples", "distances_test"):
        (tmp_path / "arrays" / f"{name}.npz").write_bytes(b"PK torn")
    (tmp_path / "metrics.csv").write_text("epoch,train/loss\n1,much\n")
    count, failed = draw(tmp_path, RunDirectory(tmp_path), "png")
    release(tmp_path)
    assert failed == ["samples", "loss_curves", "distances_test"]
    assert count == len(list((tmp_path / "figures").iterdir())) == 7
