"""A survey as one HTML page that needs nothing else, offline, and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from siamese.compare.theme import page_css
from siamese.data.images import pixels
from siamese.survey.look import Survey
from siamese.survey.tables import facts, histogram

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLES = 10  # of a class
CLASSES = 200  # with examples
PAIRS = 24
HEIGHT = 96  # pixels that an example is shown at
GAP = 255  # the colour between two of them


@dataclass(frozen=True)
class Strip:
    """Pictures of one class in a row: ``picture`` is a data URI, ``text`` says what it shows."""

    name: str
    counts: dict[str, int]
    picture: str
    width: int
    height: int


@dataclass(frozen=True)
class Pair:
    """Two images beside each other."""

    names: tuple[str, str]
    about: str
    picture: str
    width: int
    height: int


def render(survey: Survey, command: str, created: str) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = page_css() + (TEMPLATES / "survey.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    strips = list(_strips(survey))
    return environment.get_template("survey.html.j2").render(
        title=str(survey.data.root or survey.data.source_name),
        css=Markup(css),
        policy=f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        command=command,
        created=created,
        facts=facts(survey),
        bins=histogram(survey),
        most=max((count for _, count in histogram(survey)), default=1),
        parts=[name for name in survey.counts if name != "images"],
        strips=strips,
        left=len(survey.source.class_names) - len(strips),
        duplicates=[_pair(survey, one, other, "the same pixels") for one, other in survey.duplicates[:PAIRS]],
        all_duplicates=len(survey.duplicates),
        near=[
            _pair(survey, one, other, "the same hash" if not bits else f"{bits} of 64 bits differ")
            for one, other, bits in (survey.near if survey.near is not None else np.empty((0, 3), int))[:PAIRS]
        ],
        all_near=0 if survey.near is None else len(survey.near),
    )


def _strips(survey: Survey) -> Iterator[Strip]:
    source, counts = survey.source, survey.counts
    labels = source.labels.numpy()
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(source.class_names) + 1))
    for label, name in list(enumerate(source.class_names))[:CLASSES]:
        members = order[starts[label] : starts[label + 1]]
        chosen = members[np.unique(np.linspace(0, len(members) - 1, min(EXAMPLES, len(members))).astype(int))]
        if len(chosen):
            yield Strip(name, {k: int(v[label]) for k, v in counts.items()}, *_row(pixels(source.images, chosen)))


def _pair(survey: Survey, one: int, other: int, about: str) -> Pair:
    names = (str(survey.source.ids[one]), str(survey.source.ids[other]))
    return Pair(names, about, *_row(pixels(survey.source.images, np.array([one, other]))))


def _row(images: np.ndarray) -> tuple[str, int, int]:
    """``images``, uint8 [n, 3, H, W], beside each other as a data URI; its width and height."""
    gap = max(1, images.shape[3] // 16)
    apart = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=GAP)
    whole = apart.transpose(2, 0, 3, 1).reshape(images.shape[2], -1, 3)[:, :-gap]
    row = Image.fromarray(np.ascontiguousarray(whole))
    if row.height > HEIGHT:
        row = row.resize((max(1, row.width * HEIGHT // row.height), HEIGHT), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    row.save(file, "WEBP", quality=85)
    scale = HEIGHT / row.height
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return uri, round(row.width * scale), HEIGHT
