"""What the drawings of a comparison show, read back from their SVG."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from sklearn.decomposition import PCA
from support.synthetic_runs import CLASSES, arrays_of, write_run

from siamese.compare import charts, page, pictures
from siamese.compare.comparison import Options, compare
from siamese.compare.standalone import standalone
from siamese.compare.svg import HEIGHT, WIDTH, Axes, Drawing, tick_texts, ticks

BATCH, KOLEO = "data.batch_size", "loss.koleo_weight"


def texts(drawing: str, css: str) -> list[str]:
    return re.findall(rf'<text[^>]* class="{css}"[^>]*>([^<]*)</text>', drawing)


def paths(drawing: str, css: str) -> list[np.ndarray]:
    """The points [n, 2] of every path of a class, in pixels."""
    found = re.findall(rf'<path d="([^"]*)" class="{css}"', drawing)
    return [np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path), dtype=float) for path in found]


def two_groups(root, seeds=3, arrays=None, rows=None):
    """Groups A (no KoLeo) and B, ``arrays(group, seed)`` and ``rows(group, seed)`` for each run."""
    for weight in (0.0, 0.1):
        for seed in range(seeds):
            own = arrays(int(weight > 0), seed) if arrays else None
            history = rows(int(weight > 0), seed) if rows else None
            metrics = {"test/auc": 0.9 + seed / 100 + weight}
            write_run(root / f"{weight}_{seed}", {KOLEO: weight, "seed": seed}, metrics, arrays=own, rows=history)
    return compare([root], Options())


@given(some.floats(-1e6, 1e6), some.floats(1e-6, 1e6), some.integers(3, 9))
@settings(max_examples=200, deadline=None)
def test_ticks_are_round_within_and_told_apart(low, span, count):
    high = low + span
    if high - low < 1e-9 * abs(low):
        return
    values = ticks(low, high, count)
    assert 1 <= len(values) <= count + 1
    assert all(low - 1e-6 * span <= v <= high + 1e-6 * span for v in values)
    assert len(set(tick_texts(values))) == len(values)


def test_axes_map_their_ends_to_the_frame():
    axes = Axes(Drawing(WIDTH, HEIGHT, ""), (1e-3, 1.0), (0.0, 2.0), log_x=True)
    assert (axes.x(1e-3), axes.x(1.0)) == pytest.approx((axes.left, axes.right))
    assert axes.x(10**-1.5) == pytest.approx((axes.left + axes.right) / 2)
    assert (axes.y(0), axes.y(2)) == pytest.approx((axes.bottom, axes.top))


def test_a_heatmap_cell_shows_mean_interval_and_n(tmp_path):
    random = np.random.default_rng(0)
    aucs = {}
    for batch in (16, 128):
        for weight in (0.0, 0.1):
            if (batch, weight) == (128, 0.1):
                continue  # a cell that nobody ran
            aucs[batch, weight] = random.normal(0.9, 0.01, 4)
            for seed, auc in enumerate(aucs[batch, weight]):
                settings = {BATCH: batch, KOLEO: weight, "seed": seed}
                write_run(tmp_path / f"{batch}_{weight}_{seed}", settings, {"test/auc": float(auc)})
    found = compare([tmp_path], Options())
    assert charts.heatmap_keys(found, ()) == (BATCH, KOLEO)
    drawing = charts.heatmap(found, found.metrics[0], (BATCH, KOLEO)).drawing
    means, notes = texts(drawing, "value"), texts(drawing, "note")
    for values, mean, note in zip(aucs.values(), means, notes, strict=True):
        half = stats.t.ppf(0.975, 3) * stats.sem(values)
        assert float(mean) == pytest.approx(values.mean(), abs=1e-3)
        assert float(note.split()[0].removeprefix("±")) == pytest.approx(half, rel=0.05)
        assert note.endswith("n=4")
    assert drawing.count('class="empty"') == 1
    opacity = [float(o) for o in re.findall(r'fill-opacity="([\d.]+)"', drawing)]
    assert np.argsort(opacity).tolist() == np.argsort([v.mean() for v in aucs.values()]).tolist()


def test_groups_that_share_a_cell_of_the_heatmap_have_a_line_each(tmp_path):
    for i, (batch, weight, margin) in enumerate(np.ndindex(2, 2, 2)):
        settings = {BATCH: 16 + int(batch), KOLEO: weight / 10, "loss.margin": 0.1 + margin}
        write_run(tmp_path / str(i), settings, {"test/auc": 0.9 + i / 100})
    found = compare([tmp_path], Options())
    drawing = charts.heatmap(found, found.metrics[0], (BATCH, KOLEO)).drawing
    assert sorted(text.split()[0] for text in texts(drawing, "value")) == list("ABCDEFGH")


def test_roc_bands_are_t_intervals_over_seeds_at_each_false_positive_rate(tmp_path):
    heights = {0: (0.5, 0.6, 0.8), 1: (0.7, 0.9, 0.75)}

    def flat(group, seed):
        return {"roc_test": {"fpr": np.array([0.0, 1.0]), "tpr": np.full(2, heights[group][seed])}}

    found = two_groups(tmp_path, arrays=flat)
    (linear, log), without = charts.roc(found, "test")
    assert without == []
    for figure in (linear, log):
        frame = Axes(Drawing(WIDTH, WIDTH * 0.86, ""), (0.001, 1.0), (0.0, 1.0))
        for line, band, values in zip(
            paths(figure.drawing, "mean"), paths(figure.drawing, "band"), heights.values(), strict=True
        ):
            assert line[:, 1] == pytest.approx(frame.y(np.mean(values)), abs=0.1)
            ends = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
            assert {round(y, 0) for y in band[:, 1]} == {round(frame.y(end), 0) for end in ends}


def test_curves_have_a_thin_line_a_seed_and_the_mean_on_each_axis(tmp_path):
    def rows(group, seed):
        return [
            {"epoch": e, "step": 10 * e, "images": 300 * e, "val/auc": 0.5 + 0.1 * seed + 0.01 * e} for e in range(5)
        ]

    found = two_groups(tmp_path, rows=rows)
    panels = charts.curves(found, "val/auc")
    assert [figure.slug for figure in panels] == [f"curve_val_auc_{axis}" for axis in ("epoch", "step", "images")]
    for figure in panels:
        thin, mean = paths(figure.drawing, "thin"), paths(figure.drawing, "mean")
        assert (len(thin), len(mean)) == (6, 2)
        assert mean[0] == pytest.approx(np.mean(thin[:3], 0), abs=0.11)
        assert len(paths(figure.drawing, "band")) == 2
    assert panels[0].drawing.replace("epoch", "") != panels[1].drawing.replace("step", "")


def test_class_distances_and_their_difference_on_shared_scales(tmp_path):
    random = np.random.default_rng(0)
    stored = {(group, seed): random.uniform(0.1, 1.2, (10, 10)) for group in (0, 1) for seed in range(3)}
    found = two_groups(tmp_path, arrays=lambda group, seed: {"distances_test": {"matrix": stored[group, seed]}})
    drawn = pictures.matrices(found, "test")
    a, b = (np.mean([stored[group, seed] for seed in range(3)], 0) for group in (0, 1))

    def numbers(drawing):
        cells = re.findall(r'class="tiny(?: on)?">([^<]*)<', drawing)
        return np.array([float(cell.replace("−", "-")) for cell in cells]).reshape(10, 10)

    def opacities(drawing):
        return np.array(re.findall(r'fill-opacity="([\d.]+)"', drawing), dtype=float).reshape(10, 10)

    assert numbers(drawn.own[0].drawing) == pytest.approx(a, abs=0.0051)
    assert numbers(drawn.less_baseline[1].drawing) == pytest.approx(b - a, abs=0.0051)
    signs = re.findall(r'class="cell( less)?"', drawn.less_baseline[1].drawing)
    assert [sign != "" for sign in signs] == (b - a < 0).ravel().tolist()
    both = np.concatenate([a, b])
    shades = np.concatenate([opacities(drawn.own[g].drawing) for g in (0, 1)])
    assert shades == pytest.approx(0.03 + 0.87 * (both - both.min()) / (both.max() - both.min()), abs=0.0051)
    assert opacities(drawn.less_baseline[1].drawing) == pytest.approx(
        0.03 + 0.87 * np.abs(b - a) / np.abs(b - a).max(), abs=0.0051
    )
    assert CLASSES[1] in drawn.own[0].drawing


def test_distances_are_drawn_of_the_classes_that_every_run_has(tmp_path):
    """Under split=by_class each seed may have test classes of its own."""

    def absent(*classes):
        matrix = np.random.default_rng(0).uniform(0.1, 1.2, (10, 10))
        matrix[list(classes)] = matrix[:, list(classes)] = np.nan
        return {"distances_test": {"matrix": matrix}}

    found = two_groups(tmp_path / "some", arrays=lambda group, seed: absent(0, 1 + seed, 5 + group))
    drawn = pictures.matrices(found, "test")
    assert len(re.findall(r'class="tiny(?: on)?">', drawn.own[0].drawing)) == 4 * 4  # 4, 7, 8 and 9
    assert CLASSES[4] in drawn.own[0].drawing
    assert CLASSES[1] not in drawn.own[0].drawing
    found = two_groups(tmp_path / "none", arrays=lambda group, seed: absent(*range(seed, 10, 3)))
    drawn = pictures.matrices(found, "test")
    assert drawn.own == {}
    assert drawn.missing == ["no class is among the test images of every run"]


def test_a_long_name_of_a_class_says_that_it_is_cut():
    drawing = pictures._matrix(np.eye(2), ["golden retriever", "great white"], 0.0, 1.0, "x")
    assert re.findall(r'class="tick"[^>]*>([^<]*)<', drawing) == ["golden ret…"] * 2 + ["great white"] * 2


def test_many_classes_become_an_image_without_numbers(tmp_path):
    matrix = np.random.default_rng(0).uniform(0, 1, (100, 100))
    found = two_groups(tmp_path, seeds=2, arrays=lambda *_: {"distances_test": {"matrix": matrix}})
    figure = pictures.matrices(found, "test").own[0]
    assert "data:image/png;base64," in figure.drawing
    assert "tiny" not in figure.drawing


def test_the_projection_is_fitted_on_all_groups_and_its_ellipses_cover_half(tmp_path):
    arrays = {group: arrays_of(group, 0.6 + 0.4 * group, images=600) for group in (0, 1)}
    found = two_groups(tmp_path, seeds=2, arrays=lambda group, _: {"test": arrays[group]["test"]})
    figures, names, missing = pictures.projections(found, "test")
    assert (names, missing) == (CLASSES, [])
    pooled = np.concatenate([arrays[group]["test"]["embeddings"] for group in (0, 1)])
    expected = PCA(2).fit(pooled).explained_variance_ratio_
    for figure in figures:
        shares = [int(share) for share in re.findall(r"\((\d+)% of the variance\)", figure.drawing)]
        assert shares == [round(100 * share) for share in expected]
        covered = []
        for dots, outline in zip(paths_of_dots(figure.drawing), paths(figure.drawing, "ellipse"), strict=True):
            covered += [inside(point, outline) for point in dots]
        assert np.mean(covered) == pytest.approx(0.5, abs=0.04)


def paths_of_dots(drawing: str) -> list[np.ndarray]:
    found = re.findall(r'<path d="([^"]*)" class="dots"', drawing)
    return [np.array(re.findall(r"M(-?[\d.]+) (-?[\d.]+)h0", path), dtype=float) for path in found]


def inside(point: np.ndarray, outline: np.ndarray) -> bool:
    """Whether a point lies within a polygon: its corners are seen through a whole turn."""
    away = outline - point
    angles = np.unwrap(np.arctan2(*np.concatenate([away, away[:1]]).T))
    return abs(angles[-1] - angles[0]) > math.pi


def test_galleries_show_the_queries_that_all_groups_share(tmp_path):
    def arrays(group, seed):
        out = arrays_of(group, 2.5, images=200)["gallery_test"]
        return {"gallery_test": {key: value[group:] for key, value in out.items()}}  # B lacks the first query

    found = two_groups(tmp_path, seeds=2, arrays=arrays)
    queries, missing = pictures.galleries(found, "test")
    assert missing == []
    assert [query.name for query in queries] == CLASSES[1:]
    stored = arrays(0, 0)["gallery_test"]
    for i, query in enumerate(queries, start=1):
        a, b = query.strips
        assert (a.group.letter, b.group.letter) == ("A", "B")
        assert [name for name, _ in a.labels] == [CLASSES[k] for k in stored["neighbour_labels"][i]]
        assert [right for _, right in a.labels] == (stored["neighbour_labels"][i] == stored["query_labels"][i]).tolist()
    assert not all(right for query in queries for strip in query.strips for _, right in strip.labels)


def test_arrays_of_other_shapes_are_said_to_be_missing_not_drawn(tmp_path):
    def arrays(group, seed):
        return {
            "roc_test": {"fpr": np.zeros(3), "tpr": np.zeros((2, 2))},
            "distances_test": {"matrix": np.zeros((2, 3))},
            "test": {"embeddings": np.zeros((4, 2 + group)), "labels": np.zeros(4, int)},
            "gallery_test": {"query_ids": np.zeros(2)},
        }

    found = two_groups(tmp_path, seeds=2, arrays=arrays)
    drawn = page.draw(found, ())
    names = ["0.0_0", "0.0_1", "0.1_0", "0.1_1"]
    assert (drawn.roc, drawn.roc_missing) == ([], names)
    assert (drawn.matrices.own, drawn.matrices.missing) == ({}, names)
    assert drawn.projections_missing == ["embeddings differ in dimension: 2, 3"]
    assert (drawn.queries, drawn.queries_missing) == ([], ["0.0_0", "0.1_0"])
    assert "Without arrays/roc_test.npz: 0.0_0" in page.render(found, drawn, [], "")


def test_a_figure_stands_alone_as_a_file(tmp_path):
    from xml.etree import ElementTree

    found = two_groups(tmp_path)
    drawn = page.draw(found, (KOLEO, "effective_batch"))
    assert drawn.figures()
    for figure in drawn.figures():
        root = ElementTree.fromstring(standalone(figure))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root[0].text == (figure.heading or figure.title)
        text = ElementTree.tostring(root, encoding="unicode")
        assert not re.search(r"var\(|<style|class=", text)
        for element in root.iter("{http://www.w3.org/2000/svg}text"):
            assert re.fullmatch("#[0-9a-f]{6}", element.get("fill"))
        for element in root.iter("{http://www.w3.org/2000/svg}path"):
            assert {"fill", "stroke"} & set(element.keys())
        shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert all(label.split()[0] in " ".join(filter(None, shown)) for _, label in figure.legend)
        bottom = float(root.get("height"))
        assert all(float(t.get("y")) < bottom for t in root.findall("{http://www.w3.org/2000/svg}text"))
