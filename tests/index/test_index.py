"""scripts/index.py and scripts/search.py, as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import ROOT, Cli

import siamese
from siamese.encoder import Encoder
from siamese.errors import ConfigError, RunError
from siamese.index import open_index
from siamese.index.store import Stored

pytest.importorskip("faiss", reason="faiss is not installed (pip install faiss-cpu)")


@pytest.fixture(scope="module")
def encoder(network: Path) -> Encoder:
    return siamese.load_run(network)


def test_it_is_searched_as_brute_force_would(made: Path, pictures: Path, encoder: Encoder, cli: Cli) -> None:
    files = sorted(pictures.glob("*/*.png"))
    vectors = encoder.embed(files).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    done = cli("scripts/search.py", str(made), *map(str, files[:3]), "-k", "7", "--json")
    for query, told in zip(files[:3], json.loads(done.stdout), strict=True):
        apart = np.linalg.norm(vectors - vectors[files.index(query)], axis=1)
        order = np.argsort(apart, kind="stable")[:7]
        assert told["query"] == str(query)
        assert [one["path"] for one in told["neighbours"]] == [str(files[i]) for i in order]
        assert [one["label"] for one in told["neighbours"]] == [files[i].parent.name for i in order]
        assert [one["distance"] for one in told["neighbours"]] == pytest.approx(apart[order].tolist(), abs=1e-5)
        similarities = [1 - one["distance"] ** 2 / 2 for one in told["neighbours"]]
        assert [one["similarity"] for one in told["neighbours"]] == pytest.approx(similarities)
    index = siamese.open_index(made)
    assert len(index) == len(files)
    found = encoder.search(files[:3], k=7, among=index)
    assert found.ids[0].tolist() == [one["path"] for one in json.loads(done.stdout)[0]["neighbours"]]


def test_a_table_of_what_is_found(made: Path, pictures: Path, cli: Cli, tmp_path: Path) -> None:
    query, picture = pictures / "red" / "03.png", tmp_path / "found.png"
    done = cli("scripts/search.py", str(made), str(query), "-k", "4", "--where", "label=re*", "--picture", str(picture))
    lines = done.stdout.splitlines()
    assert lines[0] == f"{query}, found in {pictures}/red"
    assert [line.split()[0] for line in lines[-5:-1]] == ["1", "2", "3", "4"]
    assert lines[-5].split() == ["1", "0.0000", "1.0000", "red", "03.png"]
    assert Image.open(picture).width > 600


def test_a_threshold_knows_what_is_unknown(made: Path, tmp_path: Path, network: Path, cli: Cli) -> None:
    summary = json.loads((network / "summary.json").read_text())
    index = open_index(made)
    assert index.threshold("eer") == summary["val/threshold_at_eer"]["value"]
    strange = tmp_path / "strange.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(strange)
    done = cli("scripts/search.py", str(made), str(strange), "--threshold", "eer", "--json")
    told = json.loads(done.stdout)
    everything = json.loads(cli("scripts/search.py", str(made), str(strange), "--json").stdout)["neighbours"]
    assert told["neighbours"] == [one for one in everything if one["distance"] <= told["threshold"]]
    far = open_index(made).find(-index.vector(0), 3, within=0.5)
    assert far == []


def test_adding_twice_adds_once(index: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    again = cli("scripts/index.py", str(index), "--add", str(pictures))
    assert "0 added, 60 there already" in again.stdout
    more = Path(shutil.copytree(pictures / "blue", tmp_path / "more" / "blue"))
    shutil.copy(pictures / "red" / "00.png", more / "19.png")  # other content
    (more / "18.png").unlink()
    assert "19 added" in cli("scripts/index.py", str(index), "--add", str(more.parent)).stdout
    found = open_index(index)
    assert len(found) == 79
    nearest = found.find(found.vector(0), 3)
    assert nearest[0].path == pictures / "blue" / "00.png"
    assert nearest[0].copies == (more / "00.png",)
    assert nearest[1].path.name != "00.png"
    # A file that changed is taken in anew; one that was only touched is not.
    shutil.copy(pictures / "green" / "00.png", more / "00.png")
    os.utime(more / "01.png", (1, 1))
    assert (
        "1 replaced, which had changed, 18 there already"
        in cli("scripts/index.py", str(index), "--add", str(more)).stdout
    )
    assert len(open_index(index)) == 79
    assert open_index(index).find(found.vector(0), 1)[0].copies == ()


def test_an_image_has_one_path_wherever_it_is_added_from(index: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    script, elsewhere = ROOT / "scripts" / "index.py", tmp_path / "elsewhere"
    assert "0 added, 20 there already" in cli(script, index, "--add", "../red", cwd=pictures / "blue").stdout
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(pictures / "red")  # so link/.. is pictures, and not elsewhere
    assert "20 added" in cli(script, index, "--add", "link/../green", cwd=elsewhere).stdout
    assert str(elsewhere / "link" / ".." / "green" / "00.png") in open_index(index).stored.columns["paths"]


def test_names_of_any_kind_are_found_and_removed(
    network: Path, pictures: Path, tmp_path: Path, encoder: Encoder, cli: Cli
) -> None:
    folder = tmp_path / "[a] b*"
    odd = [b"bad\xff.png", b"new\nline.png", b"[x].png"]
    for name, source in zip(odd, sorted((pictures / "red").iterdir()), strict=False):
        place = Path(os.fsdecode(os.fsencode(folder / "it's [red]") + b"/" + name))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place)
    where = tmp_path / "odd.index"
    cli("scripts/index.py", network, folder, "--out", where)
    query = str(pictures / "red" / "00.png")
    done = cli("scripts/search.py", where, query, "--where", "label=it's [red]", COLUMNS="80")  # 3, fewer than ten
    assert [line.split()[0] for line in done.stdout.splitlines()[-3:]] == ["1", "2", "3"]
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80
    assert "bad\\xff.png" in done.stdout
    assert "new\\nline.png" in done.stdout
    found = encoder.search([query, query], k=3, among=open_index(where))
    assert found.ids[0].tolist() == found.ids[1].tolist()  # however often a name is shown
    assert "1 image removed, 2 left" in cli("scripts/index.py", where, "--remove", folder / "it's [red]/[x].png").stdout


def test_where_a_graph_finds_fewer_there_is_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_index(made)
    monkeypatch.setattr(index, "_nearest", lambda *_: (np.array([[3, -1]]), np.array([[0.5, np.inf]])))
    found = index.search(np.ones((1, index.manifest.dimensions)), 2)
    assert found.ids.tolist() == [[index.stored.columns["paths"][3], ""]]
    assert found.classes.tolist() == [[index.stored.columns["labels"][3], ""]]


def test_an_index_is_begun_by_one_process_alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = open_index(made).manifest
    Stored.create(tmp_path / "new" / "index", manifest)
    monkeypatch.setattr(Path, "exists", lambda self: False)  # as it was a moment before
    with pytest.raises(ConfigError, match="already exists"):
        Stored.create(tmp_path / "new" / "index", manifest)
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise RunError("index.json: could not be written (No space left on device)")

    monkeypatch.setattr("siamese.index.store.write_json", full)
    with pytest.raises(RunError, match="No space left"):
        Stored.create(tmp_path / "full", manifest)
    assert not (tmp_path / "full").exists()  # the same command can be given again


@pytest.mark.slow
def test_what_reads_the_json_may_stop_reading(made: Path, pictures: Path) -> None:
    words = [sys.executable, "scripts/search.py", made, *sorted(pictures.glob("*/*.png")), "--json"]
    process = subprocess.Popen([*map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()


def test_what_is_removed_is_found_no_more(index: Path, pictures: Path, cli: Cli) -> None:
    assert "20 images removed, 40 left" in cli("scripts/index.py", str(index), "--remove", "*/red/*").stdout
    found = open_index(index)
    assert {one.label for one in found.find(found.vector(0), 40)} == {"blue", "green"}
    assert "40 images, 2 classes, 16 dimensions, flat" in cli("scripts/index.py", str(index)).stdout
    done = cli("scripts/index.py", str(index), "--remove", "red", check=False)
    assert done.returncode == 2
    assert "--remove red: fits none of 40 paths; paths are whole, such as " in done.stderr
    assert "20 added, 40 there already" in cli("scripts/index.py", str(index), "--add", str(pictures)).stdout
    assert len(open_index(index)) == 60


def test_check_compares_with_what_was_written(index: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    own = Path(shutil.copytree(pictures, tmp_path / "own"))
    cli("scripts/index.py", str(index), "--add", str(own))
    (own / "red" / "00.png").unlink()
    shutil.copy(own / "red" / "01.png", own / "red" / "02.png")
    done = cli("scripts/index.py", str(index), "--check")
    assert "1 image is not there any more: " in done.stdout
    assert "1 image is changed since: " in done.stdout
    vectors = index / "segment-00001.vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = cli("scripts/index.py", str(index), "--check", check=False)
    assert done.returncode == 1
    assert "damaged: segment-00001.vectors.npy" in done.stderr
    vectors.write_bytes(whole[:-10])
    done = cli("scripts/search.py", str(index), str(pictures / "red" / "00.png"), check=False)
    assert done.returncode == 1
    assert f"segment-00001.vectors.npy: found {len(whole) - 10:,} bytes, expected {len(whole):,}" in done.stderr


@pytest.mark.slow
def test_adding_that_is_killed_loses_nothing(index: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    more = Path(shutil.copytree(pictures, tmp_path / "more"))
    program = "import siamese.index.building as b; b.AT_ONCE = 7; from siamese.commands.index import main; main()"
    words = [sys.executable, "-c", program, str(index), "--add", str(more)]
    before = {one.path for one in open_index(index).find(open_index(index).vector(0), 60)}
    seen: list[int] = []
    for _ in range(2):
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
        segments = len(list(index.glob("segment-*.images.json")))
        while process.poll() is None and len(list(index.glob("segment-*.images.json"))) < segments + 2:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = open_index(index)
        seen.append(len(found))
        assert before <= {one.path for one in found.find(found.vector(0), 60)} | {
            copy for one in found.find(found.vector(0), 60) for copy in one.copies
        }
        assert not found.stored.damaged()
    assert seen == sorted(seen)
    assert seen[-1] >= 60 + 2 * 7
    cli("scripts/index.py", str(index), "--add", str(more))
    assert len(open_index(index)) == 120
    assert not [file for file in index.iterdir() if "tmp~" in file.name]


def test_an_open_index_goes_on_while_another_process_changes_it(index: Path, pictures: Path, cli: Cli) -> None:
    cli("scripts/index.py", str(index), "--remove", "*/red/00.png")
    opened = open_index(index)
    cli("scripts/index.py", str(index), "--remove", "*/red/*")
    assert {one.label for one in opened.find(opened.vector(0), 59)} == {"blue", "green", "red"}
    assert opened.stored.thumbnail(len(opened))[:2] == b"\xff\xd8"
    assert len(open_index(index)) == 40


def test_the_kinds_and_another_network(
    pictures: Path, network: Path, made: Path, train_cli: Cli, tmp_path: Path, cli: Cli
) -> None:
    done = cli(
        "scripts/index.py", str(network), str(pictures), "--out", str(tmp_path / "h"), "--kind", "hnsw", "--flip"
    )
    assert "hnsw finds 100.0 % of the 10 nearest that looking at all finds" in done.stdout
    assert open_index(tmp_path / "h").manifest.flip
    other = Path(shutil.copytree(network, tmp_path / "other"))
    words = (
        "model=conv_small",
        "model.width=4",
        "model.embedding_dim=16",
        "trainer.max_epochs=1",
        "device=cpu",
        "seed=3",
    )
    train_cli(
        "data=digits", *words, "figures.draw=false", "evaluation.resamples=0", f"hydra.run.dir={tmp_path / 'run3'}"
    )
    query = str(pictures / "red" / "00.png")
    done = cli("scripts/search.py", str(made), query, "--run", str(tmp_path / "run3"), check=False)
    assert done.returncode == 1
    assert "are others, whose distances mean nothing in it" in done.stderr
    assert cli("scripts/search.py", str(made), query, "--run", str(other), "-k", "1", "--json").returncode == 0


WRONG = {
    "no such index": (["search", "nowhere", "{q}"], 2, "nowhere: no such folder"),
    "a folder that is none": (["search", "{pictures}", "{q}"], 2, "expected an index, found no index.json in it"),
    "k too large": (["search", "{made}", "{q}", "-k", "61"], 2, "k=61: expected 1 to 60, as many as there are"),
    "k of nothing": (["search", "{made}", "{q}", "-k", "0"], 2, "k=0: expected 1 to 60"),
    "k of a class": ("search {made} {q} -k 21 --where label=red".split(), 2, "as there are where label=red"),
    "no image": (["search", "{made}", "{folder}/x.txt"], 1, "x.txt: not an image that can be read"),
    "no file": (["search", "{made}", "gone.png"], 2, "gone.png"),
    "no such field": ("search {made} {q} --where labl=red".split(), 2, "did you mean 'label'?"),
    "nothing there": (["search", "{made}", "{q}", "--where", "label=pink"], 2, "holds no image where label=pink"),
    "no such threshold": ("search {made} {q} --threshold 1e-4".split(), 2, "1e-4: expected one of eer, 1e-1"),
    "nothing to look for": (["search", "{made}"], 2, "expected images to look for, or --serve"),
    "nearly there": (["search", "{made}x", "{q}"], 2, "no such folder; did you mean 'pictures.index'?"),
    "nearly a label": (["search", "{made}", "{q}", "--where", "label=rad"], 2, "label=rad; did you mean 'red'?"),
    "exact on the page": (["search", "{made}", "--serve", "--exact"], 2, "--exact: is for images beside it"),
    "a checkpoint later": (
        "index {made} --add {pictures} --checkpoint last".split(), 2, "--checkpoint: is for an index that --out makes"
    ),
    "a run for nothing": (
        "index {made} --check --run {network}".split(), 2, "--run: is for images that --add embeds"
    ),
    "skipped for nothing": ("index {made} --damaged skip".split(), 2, "--damaged: is for images that --add embeds or"),
    "a file in the way": ("index {network} {pictures} --out {folder}/x.txt/i".split(), 2, "x.txt is no folder"),
    "no index in the way": ("index {network} {pictures} --out {folder}".split(), 2, "exists; choose another name"),
    "there already": ("index {network} {pictures} --out {made}".split(), 2, "already exists; --add FOLDER adds"),
    "an empty folder": (["index", "{network}", "{folder}/empty", "--out", "{folder}/i"], 2, "holds no image"),
    "no such kind": ("index {network} {pictures} --out {folder}/i --kind hsnw".split(), 2, "did you mean 'hnsw'?"),
    "no out": (["index", "{network}", "{pictures}"], 2, "expected --out INDEX beside images"),
    "add to a run": (["index", "{network}", "--add", "{pictures}"], 2, "expected an index, found no index.json in it"),
    "damaged images": (["index", "{network}", "{folder}/bad", "--out", "{folder}/i"], 1, "1 file cannot be read: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line(
    name: str, made: Path, pictures: Path, network: Path, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "x.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.png").write_bytes((pictures / "red" / "00.png").read_bytes()[:-200])
    words, status, said = WRONG[name]
    places = {
        "made": made,
        "pictures": pictures,
        "network": network,
        "folder": tmp_path,
        "q": pictures / "red" / "00.png",
    }
    typed = [word.format(**places) for word in words[1:]]
    done = cli(f"scripts/{words[0]}.py", *typed, check=False)
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert (done.returncode, len(errors)) == (status, 1), done.stderr
    assert said in errors[0]


def test_without_faiss_it_says_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"faiss: not installed, .* pip install 'siamese\[index\]'"):
        open_index(made)


def test_a_manifest_that_is_damaged_or_newer(index: Path) -> None:
    held = json.loads((index / "index.json").read_text())
    for text, error, said in (
        ("{", RunError, "damaged"),
        (json.dumps(held | {"schema": 99}), ConfigError, "written by a later version"),
        (json.dumps({**held, "segments": [{}]}), RunError, "damaged"),
        (json.dumps({key: value for key, value in held.items() if key != "weights"}), RunError, "damaged"),
    ):
        (index / "index.json").write_text(text)
        with pytest.raises(error, match=said):
            open_index(index)
