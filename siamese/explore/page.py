"""explore.html: one file that needs nothing else, offline, and runs nothing that it did not bring."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from siamese.compare.theme import page_css
from siamese.errors import ConfigError
from siamese.explore.gather import COLUMNS, Embedded, Sheets, failed
from siamese.palette import CLASSES

TEMPLATES = Path(__file__).parent / "templates"
FAILURES = 300  # in the list


def plotly_script() -> str:
    """The drawing library, as its Python package brings it (4.8 MB; it has no smaller bundle with scattergl).

    Raises:
        ConfigError: when it is not installed.
    """
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise ConfigError("plotly: not installed, and explore.html is drawn with it; pip install 'siamese[explore]'")
    return (Path(found.origin).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def render(
    of: Embedded,
    planes: dict[str, np.ndarray],
    nearest: tuple[np.ndarray, np.ndarray],
    sheets: Sheets | None,
    title: str,
    command: str,
    created: str,
) -> str:
    """The page.

    Args:
        planes: by their names, [N, 2] each.
        nearest: see :func:`siamese.explore.gather.neighbours`.
        sheets: thumbnails, or None for a page without.

    Raises:
        ConfigError: when plotly is not installed.
    """
    library, script = plotly_script(), (TEMPLATES / "explore.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("explore.html.j2").render(
        title=title,
        command=command,
        created=created,
        css=Markup(page_css() + (TEMPLATES / "explore.css").read_text(encoding="utf-8")),
        # Plotly places what it draws by style attributes, and compiles what it hands to WebGL with Function(): both
        # have to be allowed. Only these two scripts run, known by their hashes, and nothing can be asked for or sent.
        policy=f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src '{_hash(library)}' "
        f"'{_hash(script)}' 'unsafe-eval'; base-uri 'none'; form-action 'none'",
        library=Markup(library),
        script=Markup(script),
        data=Markup(_json(_data(of, planes, nearest, sheets))),
        planes=list(planes),
        parts=of.part_names,
        counts=[int((of.parts == part).sum()) for part in range(len(of.part_names))],
        classes=of.class_names,
        failures=len(of.failures),
    )


def _data(
    of: Embedded, planes: dict[str, np.ndarray], nearest: tuple[np.ndarray, np.ndarray], sheets: Sheets | None
) -> dict[str, Any]:
    places = failed(of, of.failures)
    shown = [(place, row) for place, row in zip(places, of.failures, strict=True) if place >= 0]
    return {
        "ids": of.ids.tolist(),
        "labels": of.labels.tolist(),
        "parts": of.parts.tolist(),
        "classNames": of.class_names,
        "partNames": of.part_names,
        "planes": {name: _packed(points, "<f4") for name, points in planes.items()},
        "nearest": _packed(nearest[0], "<i4"),
        "cosines": _packed(np.rint(nearest[1] * 1e4), "<i2"),
        "k": nearest[0].shape[1],
        "wrong": sorted({place for place, _ in shown}),
        "failures": [[place, row["nearest_class"], row["rank"]] for place, row in shown[:FAILURES]],
        "allFailures": len(shown),
        "sheets": [_uri(file) for file in sheets.files] if sheets else [],
        "edge": sheets.edge if sheets else 0,
        "columns": COLUMNS,
        "hues": len(CLASSES),
    }


def _packed(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def _uri(file: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(file).decode()}"


def _json(data: dict[str, Any]) -> str:
    """``data`` as JSON that no name in it can end the element of."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
