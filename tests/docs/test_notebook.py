"""The tutorial as a notebook: it runs from its first cell to its last, and is kept without outputs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from docs.pages import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install nbformat)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (pip install nbclient)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (pip install ipykernel)")

NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"


@pytest.fixture(scope="module")
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert [cell.source for cell in code if cell.outputs or cell.execution_count is not None] == []


def test_its_links_lead_somewhere(notebook: Any) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == 2
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.slow
def test_it_runs(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = {
        cell.source.splitlines()[0]: "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    trained = shown['spread = siamese.train(*words, "loss=triplet_koleo")']
    assert "KoLeo sees" in trained
    assert "epoch 3/3" in trained  # progress shows, though a notebook is no terminal
    assert "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?" in shown["try:"]
    assert "effective_rank" in shown["from siamese.commands.compare import main as compare"]
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(pictures) == 1
    assert len(list((tmp_path / "outputs").glob("*_digits_*/summary.json"))) == 2
