"""What a user can get wrong, as typed: one line on stderr, the exit status, and nothing broken left."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from support.forkserver import ForkServer
from support.images import write_folder
from support.processes import ROOT, Cli

from siamese.errors import ConfigError
from siamese.models import conv_small
from siamese.training.check import Command, check, job_config

pytestmark = pytest.mark.slow

SMALL = (
    "data=digits",
    "data.images_per_class=20",
    "model=conv_small",
    "model.width=4",
    "device=cpu",
    "trainer.max_epochs=1",
    "figures.draw=false",
)
CLOSED_PORT = "http://127.0.0.1:9"
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED_PORT) | {
    "no_proxy": "",
    "NO_PROXY": "",
}
BAD_COMMAND, FAILED = 2, 1


def refused(done: subprocess.CompletedProcess[str], status: int, *says: object) -> str:
    """Assert that the command ended with ``status`` and one line that has all of ``says``; the line."""
    seen = f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr, seen
    assert done.returncode == status, seen
    lines = done.stderr.splitlines()
    assert len(lines) == 1, seen
    assert lines[0].startswith("error: "), seen
    for part in says:
        assert str(part) in lines[0], f"{part!s} is not in {lines[0]}"
    return lines[0].removeprefix("error: ")


def failed(run: Path, message: str) -> None:
    """Assert that ``run`` says itself that it failed with ``message``, and holds no half-written file."""
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", message)
    assert not list(run.rglob("*.tmp~"))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class Case:
    """Words added to SMALL, and what the answer must say."""

    name: str
    words: tuple[str, ...]
    says: tuple[str, ...]


def case(name: str, words: str, *says: str) -> object:
    return pytest.param(Case(name, tuple(words.split()), says), id=name)


# -- what is wrong with the command or the configuration, before anything is written ---------------

COMMANDS = [
    # keys and groups
    case("key misspelled", "data.batch_sise=3", "'data.batch_sise'", "did you mean 'data.batch_size'?"),
    case("key misspelled, added", "+data.batch_sise=3", "'data.batch_sise'", "did you mean 'data.batch_size'?"),
    case("argument misspelled", "model.widht=8", "'model.widht'", "did you mean 'model.width'?"),
    case("key of another group", "+callbacks.lr=1", "'callbacks.lr'"),
    case("group misspelled", "optimiser=adam", "'optimiser'", "did you mean 'optimizer'?"),
    case(
        "option misspelled",
        "model=conv_smal",
        "model=conv_smal",
        "one of alexnet, conv_small",
        "did you mean 'conv_small'?",
    ),
    case("option of an empty group", "experiment=quick", "experiment=quick", "article", "did you mean 'quickstart'?"),
    case("option null", "model=null", "model=null", "one of alexnet, conv_small", "vgg11"),
    case("option a number", "data=5", "data=5", "one of cars196, cifar10, cub200, digits"),
    case("device unknown", "device=gpu", "device=gpu", "one of auto, cpu, cpu_bf16, cpu_ddp, cuda"),
    case("group deleted", "~optimizer", "optimizer._target_", "found nothing"),
    # words
    case("no equals sign", "data.batch_size", "'data.batch_size'", "expected GROUP=OPTION or KEY=VALUE"),
    case("no key", "=3", "'=3'", "expected GROUP=OPTION or KEY=VALUE"),
    case("bracket left open", "data.mean=[0.5", "'data.mean=[0.5'", "expected GROUP=OPTION or KEY=VALUE"),
    case("flag misspelled", "--confg job", "--confg", "did you mean '--cfg'?"),
    case("flag unknown", "-x", "-x", "--hydra-help"),
    case("several values without -m", "seed=1,2", "seed=1,2", "--multirun"),
    case("reference to nothing", "data.batch_size=${batch}", "data.batch_size", "'batch' not found"),
    # types
    case("text for int", "data.batch_size=many", "data.batch_size=many", "expected a whole number from 1, or auto"),
    case("float for int", "trainer.max_epochs=1.5", "trainer.max_epochs=1.5", "expected int, found float"),
    case("bool for int", "data.batch_size=true", "data.batch_size=True", "expected a whole number from 1, or auto"),
    case("list for int", "data.batch_size=[1,2]", "data.batch_size=[1, 2]", "expected a whole number from 1, or auto"),
    case("null for int", "data.batch_size=null", "data.batch_size=null", "expected a whole number from 1, or auto"),
    case("text for bool", "data.download=maybe", "data.download=maybe", "expected bool, found str"),
    case("text for list", "data.mean=grey", "data.mean=grey", "expected a list or null, found str"),
    case("averaging out of range", "callbacks.ema=1", "callbacks.ema=1.0", "a fraction above 0 and below 1"),
    case("decay unknown", "optimizer.decay=weight", "optimizer.decay=weight", "did you mean 'weights'?"),
    case("text for flip", "evaluation.flip=maybe", "evaluation.flip=maybe", "expected bool, found str"),
    case(
        "border wider than the image",
        "augment=crop_flip data.augment.border=reflection data.augment.crop_padding=8 data.image_size=8",
        "data.augment.crop_padding=8",
        "less than data.image_size=8, to be reflected",
    ),
    case("border unknown", "augment=crop_flip data.augment.border=mirror", "data.augment.border=mirror", "reflection"),
    case("text for a group of keys", "data.augment=no", "data.augment=no", "data.augment.KEY=VALUE"),
    case("text for embedding_dim", "model.embedding_dim=abc", "model.embedding_dim=abc", "expected at least 1"),
    case("text for koleo_weight", "loss.koleo_weight=abc", "loss.koleo_weight=abc", "expected float, found str"),
    case("required value", "data.batch_size=???", "data.batch_size", "a value is required"),
    # ranges
    case("batch_size negative", "data.batch_size=-1", "data.batch_size=-1", "expected a whole number from 1, or auto"),
    case("batch_size zero", "data.batch_size=0", "data.batch_size=0", "expected a whole number from 1, or auto"),
    case("eval_batch_size zero", "data.eval_batch_size=0", "data.eval_batch_size=0", "expected at least 1"),
    case("margin negative", "loss.margin=-0.1", "loss.margin=-0.1", "expected a number above 0"),
    case("margin zero", "loss.margin=0", "loss.margin=0", "expected a number above 0"),
    case("margin infinite", "loss.margin=inf", "loss.margin=inf", "expected a finite number"),
    case("lr negative", "optimizer.lr=-1", "optimizer.lr=-1", "expected a number above 0"),
    case("lr zero", "optimizer.lr=0", "optimizer.lr=0", "expected a number above 0"),
    case("lr text", "optimizer.lr=fast", "optimizer.lr=fast", "expected a number above 0"),
    case("lr not a number", "optimizer.lr=nan", "optimizer.lr=nan", "expected a finite number"),
    case("max_epochs negative", "trainer.max_epochs=-1", "trainer.max_epochs=-1", "expected at least 1"),
    case("max_epochs zero", "trainer.max_epochs=0", "trainer.max_epochs=0", "expected at least 1"),
    case("val_fraction zero", "data.val_fraction=0", "data.val_fraction=0", "above 0 and below 1"),
    case("val_fraction one", "data.val_fraction=1", "data.val_fraction=1", "above 0 and below 1"),
    case("val_fraction above one", "data.val_fraction=1.5", "data.val_fraction=1.5", "above 0 and below 1"),
    case("test_fraction negative", "data.test_fraction=-0.1", "data.test_fraction=-0.1", "above 0 and below 1"),
    case("fold too high", "data.split=kfold data.fold=5", "data.fold=5", "from 0 to 4", "data.folds=5"),
    case("fold negative", "data.split=kfold data.fold=-1", "data.fold=-1", "expected at least 0"),
    case("folds one", "data.split=kfold data.folds=1", "data.folds=1", "expected at least 2"),
    case("seed too large", "seed=4294967296", "seed=4294967296", "from 0 to 4294967295"),
    case("limit neither", "trainer.limit_train_batches=2.5", "trainer.limit_train_batches=2.5", "a fraction"),
    case("step_size zero", "scheduler=step scheduler.step_size=0", "scheduler.step_size=0", "expected at least 1"),
    # choices
    case("accelerator unknown", "device.accelerator=gpu", "device.accelerator=gpu", "one of auto, cpu, cuda, mps"),
    case("precision unknown", "device.precision=16", "device.precision=16", "16-mixed"),
    case("koleo_over misspelled", "loss.koleo_over=anchor", "loss.koleo_over=anchor", "did you mean 'anchors'?"),
    case("split misspelled", "data.split=kfolds", "data.split=kfolds", "did you mean 'kfold'?"),
    case("interval misspelled", "scheduler=step scheduler.interval=epochs", "scheduler.interval=epochs", "'epoch'?"),
    # combinations
    case("mean without std", "data.mean=[0.5,0.5,0.5]", "data.mean and data.std", "give both"),
    case("mean of one channel", "data.mean=[0.5] data.std=[0.5]", "data.mean=[0.5]", "expected 3 numbers"),
    case("std zero", "data.mean=[0,0,0] data.std=[0,1,1]", "data.std=[0.0, 1.0, 1.0]", "above 0"),
    case("image_folder without root", "data=image_folder", "data.root: image_folder needs it", "data.root=VALUE"),
    case("no optimizer", "optimizer._target_=null", "optimizer._target_", "found nothing"),
    # places
    case("run directory empty", "hydra.run.dir=", "hydra.run.dir", "found nothing"),
    case("run directory null", "hydra.run.dir=null", "hydra.run.dir=null", "not Optional"),
    case("resume of nothing", "resume=no/such/run", "resume=no/such/run", "not a run directory", "manifest.json"),
]

# Known once what the groups name has been imported.
TARGETS = [
    case(
        "argument unknown",
        "+model.widht=8",
        "'model.widht'",
        "conv_small takes embedding_dim",
        "did you mean 'model.width'?",
    ),
    case("optimizer misspelled", "optimizer._target_=torch.optim.Adan", "torch.optim.Adan", "'torch.optim.Adam'?"),
    case("momentum missing", "optimizer=sgd optimizer.momentum=0", "optimizer.momentum=0", "requires a momentum"),
    case("strategy unknown", "device.strategy=dpp", "device.strategy=dpp", "did you mean 'ddp'?"),
    case("several devices", "device.devices=2", "device.strategy=auto", "device.devices=2", "device=cpu_ddp"),
    case(
        "anneal_strategy unknown",
        "scheduler=one_cycle scheduler.anneal_strategy=cosine",
        "scheduler.anneal_strategy=cosine",
        "one of cos, linear",
        "did you mean 'cos'?",
    ),
]


WINDOW = "trainer.accumulate_grad_batches=4"
LBFGS = "optimizer._target_=torch.optim.LBFGS ~optimizer.betas ~optimizer.eps ~optimizer.weight_decay ~optimizer.fused"


@pytest.mark.parametrize("wrong", [*COMMANDS, *TARGETS])
def test_a_bad_command_writes_nothing(wrong: Case, train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train_cli(f"hydra.run.dir={run}", *SMALL, *wrong.words, check=False)
    refused(done, BAD_COMMAND, *wrong.says)
    assert not run.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        case("text of another type", "model.weights=3", "model.weights=3", "expected null or str, found int"),
        case("lr null", "optimizer.lr=null", "optimizer.lr=null", "expected float, found null"),
        case("betas a number", "optimizer.betas=0.9", "optimizer.betas=0.9", "expected a list of 2, found float"),
        case("betas of three", "optimizer.betas=[0,0,0]", "optimizer.betas=[0, 0, 0]", "expected a list of 2"),
        case("betas out of range", "optimizer.betas=[2,3]", "optimizer.betas=[2, 3]", "torch.optim.Adam refuses"),
        case("pct_start out of range", "scheduler=one_cycle scheduler.pct_start=2", "scheduler.pct_start=2", "refuses"),
        case("step_size missing", "scheduler=step ~scheduler.step_size", "scheduler.step_size=VALUE", "needs it"),
        case("scheduler unnamed", "+scheduler.gamma=3", "'scheduler.gamma'", "scheduler._target_ is null"),
        case("module for a class", "optimizer._target_=torch.optim", "optimizer._target_=torch.optim", "found module"),
        case("loss missing", "loss._target_=siamese.losses.TripleLoss", "did you mean 'siamese.losses.TripletLoss'?"),
        case("logger missing", "logger._target_=no.such.Logger", "logger._target_=no.such.Logger", "be imported"),
        case("no optimizer", "~optimizer +optimizer._target_=torch.nn.ParameterList", "ParameterList", "Optimizer"),
        case(
            "scheduler that waits the wrong way",
            "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau +scheduler.mode=max",
            "scheduler.mode=max",
            "follows from what is waited for, val/loss",
        ),
        case("window zero", "trainer.accumulate_grad_batches=0", "accumulate_grad_batches=0", "expected at least 1"),
        case("LBFGS under exact", f"{LBFGS} accumulation=exact", "torch.optim.LBFGS", "several times", "=exact"),
        case("LBFGS in a window", f"{LBFGS} {WINDOW}", "torch.optim.LBFGS", "trainer.accumulate_grad_batches=4"),
        case(
            "memory for single tuples",
            f"{WINDOW} accumulation=memory loss=triplet",
            "accumulation.mode=memory: siamese.losses.TripletLoss cannot take reference embeddings",
            "triplet_batch_all",
            "loss.koleo_weight above 0",
        ),
        case(
            "memory for drawn pairs",
            f"{WINDOW} accumulation=memory loss=multi_similarity batches=pairs loss.miner=null",
            "MultiSimilarityLoss cannot take reference embeddings with batches=pairs",
            "batches=balanced",
        ),
        case(
            "memory of a memory",
            f"{WINDOW} accumulation=memory loss=cross_batch_memory batches=balanced",
            "CrossBatchMemory cannot take reference embeddings",
        ),
        case(
            "window too large for a memory",
            f"{WINDOW} accumulation=exact loss=cross_batch_memory loss.memory_size=700",
            "loss.memory_size=700",
            "at least the 768 images",
        ),
        case(
            "memory with roles",
            f"{WINDOW} accumulation=memory loss=triplet_koleo loss.koleo_over=anchors",
            "loss.koleo_over=anchors",
            "expected all",
        ),
        case("memory of nothing", "accumulation=memory loss=triplet_koleo", "accumulation.scope=window", "persistent"),
        case(
            "memory without size",
            "accumulation=memory accumulation.scope=persistent loss=triplet_koleo",
            "accumulation.size",
            "accumulation.size=NUMBER",
        ),
        case("size without memory", "accumulation=exact accumulation.size=5", "accumulation.size=5", "found", "exact"),
        case(
            "exact without rescaling",
            "accumulation=exact accumulation.rescale_last_window=false",
            "accumulation.rescale_last_window=false",
            "accumulation=naive",
        ),
        case("measuring never", "accumulation.measure_every=0", "accumulation.measure_every=0", "at least 1"),
        case("precision of a GPU", "device.precision=16-mixed", "device.precision=16-mixed", "expected bf16-mixed"),
    ],
)
def test_what_a_target_cannot_take_is_known_before_the_run(wrong: Case) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("train", [*SMALL, *wrong.words], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with pytest.raises(ConfigError) as raised:
            check(Command(job_config(config), tuple(wrong.words)), Path())
    message = str(raised.value)
    assert len(message.splitlines()) == 1
    for part in wrong.says:
        assert part in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(train_cli: Cli, tmp_path: Path) -> None:
    done = train_cli(f"hydra.run.dir={tmp_path / 'run'}", *SMALL, "device=cuda", check=False)
    refused(done, BAD_COMMAND, "device.accelerator=cuda", "no CUDA device", "device=cpu")
    assert not (tmp_path / "run").exists()


# -- what is wrong with the data, the weights or the numbers: the run says that it failed ----------


def archive(root: Path) -> Path:
    """An archive in ``root`` by the name and with the members of CIFAR-10's, but not its bytes."""
    root.mkdir()
    path = root / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name in ("batches.meta", "test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
            content = hashlib.sha256(name.encode()).digest() * 100
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def folder_case(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """Words for an image folder of two classes that ``change`` has made worse."""

    def make(tmp_path: Path) -> list[str]:
        root = write_folder(tmp_path / "images", {"cat": 10, "dog": 10})
        change(root)
        where = [f"data.root={root}", f"data.cache_dir={tmp_path / 'cache'}"]
        return ["data=image_folder", "data.images_per_class=null", *where]

    return make


def one_image(root: Path) -> None:
    for i in range(1, 10):
        (root / "dog" / f"{i:03d}.png").unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def tamper(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def cifar(change: Callable[[Path], object] = lambda path: None, download: bool = True) -> Callable[[Path], list[str]]:
    def make(tmp_path: Path) -> list[str]:
        change(archive(tmp_path / "cifar"))
        words = ["data=cifar10", f"data.root={tmp_path / 'cifar'}", f"data.download={str(download).lower()}"]
        return [*words, "data.mean=null", "data.std=null"]

    return make


def weights(write: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def make(tmp_path: Path) -> list[str]:
        write(tmp_path / "weights.pt")
        return [f"model.weights={tmp_path / 'weights.pt'}"]

    return make


def words(text: str) -> Callable[[Path], list[str]]:
    return lambda tmp_path: text.split()


def wider(path: Path) -> None:
    torch.save(conv_small([0.5] * 3, [0.5] * 3, width=8).backbone.state_dict(), path)


FAILING = [
    ("root missing", folder_case(shutil.rmtree), 2, ["data.root={tmp}/images", "no such folder"]),
    (
        "root without classes",
        folder_case(lambda root: [shutil.rmtree(root / name) for name in ("cat", "dog")]),
        2,
        ["data.root={tmp}/images", "root/<class>/*", "found none"],
    ),
    ("class of one image", folder_case(one_image), 2, ["'dog' (1 image)", "at least 2 images of each"]),
    (
        "no image",
        folder_case(lambda root: (root / "cat" / "notes.jpg").write_text("cats")),
        1,
        ["data.root={tmp}/images", "1 of 21 images", "cat/notes.jpg: not an image", "data.damaged=skip"],
    ),
    (
        "image truncated",
        folder_case(lambda root: truncate(root / "cat" / "003.png")),
        1,
        ["data.root={tmp}/images", "1 of 20 images", "cat/003.png: "],
    ),
    ("CIFAR archive truncated", cifar(truncate), 1, ["cifar/cifar-10-python.tar.gz", "MD5", "expected c58f30108f71"]),
    (
        "CIFAR archive tampered",
        cifar(tamper, False),
        1,
        ["cifar/cifar-10-python.tar.gz", "MD5", "expected c58f30108f71"],
    ),
    ("CIFAR missing", cifar(Path.unlink, False), 1, ["data.root={tmp}/cifar", "data.download=true"]),
    ("CIFAR without a network", cifar(Path.unlink), 1, ["data.root={tmp}/cifar", "could not be downloaded"]),
    (
        "ImageNet without a network",
        words("model=vgg11 ~model.width"),
        1,
        ["model.pretrained=true", "could not be downloaded", "model.weights=FILE"],
    ),
    ("weights are text", weights(lambda path: path.write_text("0.5")), 1, ["{tmp}/weights.pt", "as a state dict"]),
    (
        "weights of another width",
        weights(wider),
        1,
        ["{tmp}/weights.pt", "not the weights of conv_small with model.width=4", "other shapes for"],
    ),
    (
        "weights of another architecture",
        weights(lambda path: torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)),
        1,
        ["{tmp}/weights.pt", "not the weights of conv_small", "lacks"],
    ),
    ("batch larger than the split", words("data.batch_size=5000"), 2, ["data.batch_size=5000", "only 170 triplets"]),
    ("more images than there are", words("data.images_per_class=500"), 2, ["data.images_per_class=500", "'0'"]),
    ("image too small for the model", words("data.image_size=4"), 2, ["data.image_size=4", "conv_small"]),
    (
        "weights that overflow",
        words("optimizer=sgd optimizer.lr=1e300 callbacks.checkpoint_every_steps=1"),
        1,
        ["NaN or infinite at epoch 1, step 1", "optimizer.lr"],
    ),
]


@pytest.mark.parametrize(("make", "status", "says"), [pytest.param(*row, id=name) for name, *row in FAILING])
def test_a_run_that_fails_says_so(
    make: Callable[[Path], list[str]], status: int, says: list[str], train_cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [f"hydra.run.dir={run}", *SMALL, *make(tmp_path)]
    if "~model.width" in command:  # of another model
        command = [word for word in command if "model.width" not in word]
    if "data=cifar10" in command:
        command.remove("data.images_per_class=20")
    done = train_cli(*command, check=False, TORCH_HOME=str(tmp_path / "torch"), **OFFLINE)
    message = refused(done, status, *(part.format(tmp=tmp_path) for part in says))
    failed(run, message)
    assert not list((run / "checkpoints").glob("*"))


def test_a_loss_that_becomes_nan_leaves_the_last_good_checkpoint(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    explodes = ["scheduler=step", "scheduler.step_size=1", "scheduler.gamma=1e38", "trainer.max_epochs=3"]
    done = train_cli(f"hydra.run.dir={run}", *SMALL, *explodes, check=False)
    message = refused(done, FAILED, "train/loss", "epoch 2, step 2", "checkpoints/last.ckpt", "optimizer.lr")
    failed(run, message)
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3  # the three of epoch 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())


# -- where a run is written ------------------------------------------------------------------------


def test_a_directory_below_a_file(train_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    run = tmp_path / "file" / "run"
    done = train_cli(f"hydra.run.dir={run}", *SMALL, check=False)
    refused(done, BAD_COMMAND, run, "cannot be written to", "Not a directory")
    assert digests(tmp_path) == {"file": hashlib.sha256(b"not a folder").hexdigest()}


@pytest.fixture(scope="session")
def one_run(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch, made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    run = shared / "one_run"
    with open(shared / "one_run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "summary.json").exists():
            train_cli(f"hydra.run.dir={run}", *SMALL)
    return run


@pytest.fixture
def finished(one_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_run, tmp_path / "run"))


def rewrite(path: Path, **changes: object) -> None:
    """Change top-level entries of a JSON or YAML file."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    path.write_text(write(read(path.read_text()) | changes))


def test_a_directory_that_holds_a_run(finished: Path, train_cli: Cli) -> None:
    before = digests(finished)
    done = train_cli(f"hydra.run.dir={finished}", *SMALL, "seed=1", check=False)
    refused(done, BAD_COMMAND, f"hydra.run.dir={finished}", "already holds a run", f"resume={finished}")
    assert digests(finished) == before


RESUMES = [
    case("finished", "", "has completed its 1 epochs", "raise trainer.max_epochs"),
    case("scientific key", "optimizer.lr=0.5", "optimizer.lr=0.5", "it has optimizer.lr=0.0005", "trainer.max_epochs"),
    case("scientific group", "loss=triplet_koleo", "loss.koleo_weight=0.1", "it has loss.koleo_weight=0.0"),
    case("batch size", "data.batch_size=32", "data.batch_size=32", "it has data.batch_size=64"),
    case("fewer epochs", "trainer.max_epochs=0", "trainer.max_epochs=0", "1"),
    case("key misspelled", "trainer.max_epoch=9", "'trainer.max_epoch'", "did you mean 'trainer.max_epochs'?"),
]


@pytest.mark.parametrize("wrong", RESUMES)
def test_a_resume_that_is_refused_changes_nothing(wrong: Case, finished: Path, train_cli: Cli) -> None:
    before = digests(finished)
    refused(train_cli(f"resume={finished}", *wrong.words, check=False), BAD_COMMAND, *wrong.says)
    assert digests(finished) == before


def test_resume_with_fewer_epochs(finished: Path, train_cli: Cli) -> None:
    resolved = finished / "config.resolved.yaml"
    trainer = yaml.safe_load(resolved.read_text())["trainer"]
    rewrite(resolved, trainer=trainer | {"max_epochs": 3})
    (finished / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*SMALL[:-1], "trainer.max_epochs=3"]))
    before = digests(finished)
    done = train_cli(f"resume={finished}", "trainer.max_epochs=2", check=False)
    refused(done, BAD_COMMAND, "trainer.max_epochs=2", "above 3, not lower")
    assert digests(finished) == before


def test_resume_of_a_newer_version(finished: Path, train_cli: Cli) -> None:
    rewrite(finished / "manifest.json", schema_version=99)
    before = digests(finished)
    done = train_cli(f"resume={finished}", "trainer.max_epochs=2", check=False)
    refused(done, BAD_COMMAND, f"resume={finished}", "schema_version is 99", "up to 1")
    assert digests(finished) == before


def test_resume_of_a_folder_that_is_no_run(train_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no run")
    refused(train_cli(f"resume={tmp_path}", check=False), BAD_COMMAND, f"resume={tmp_path}", "not a run directory")
    assert list(digests(tmp_path)) == ["notes.txt"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param("not: [closed", "cannot be read", id="no YAML"),
        pytest.param("trainer: 5", "trainer=5: expected keys below it", id="group replaced"),
        pytest.param("nonsense: 1", "unknown key 'nonsense'", id="key unknown"),
        pytest.param("[1]", "[1]: expected a group of keys", id="list"),
        pytest.param("", "null: expected a group of keys", id="empty"),
    ],
)
def test_resume_of_a_damaged_configuration(damage: str, says: str, finished: Path, train_cli: Cli) -> None:
    (finished / "config.resolved.yaml").write_text(damage)
    before = digests(finished)
    done = train_cli(f"resume={finished}", "trainer.max_epochs=2", check=False)
    refused(done, BAD_COMMAND, f"resume={finished}", says)
    assert digests(finished) == before


def test_a_foreign_target_in_a_run_directory_is_not_executed(finished: Path, train_cli: Cli, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    (tmp_path / "foreign.py").write_text(f"open({str(executed)!r}, 'w')\ndef optimizer(params, lr): ...\n")
    rewrite(finished / "config.resolved.yaml", optimizer={"_target_": "foreign.optimizer", "lr": 0.1})
    before = digests(finished)
    done = train_cli(f"resume={finished}", "trainer.max_epochs=2", check=False, PYTHONPATH=str(tmp_path))
    refused(done, BAD_COMMAND, "optimizer._target_=foreign.optimizer", "conf/optimizer", "trust=foreign")
    assert not executed.exists()
    assert digests(finished) == before


def test_a_full_disk_leaves_the_checkpoints_as_they_were(finished: Path) -> None:
    kept = digests(finished / "checkpoints")
    status, limit = (finished / "status.json").read_bytes(), 20_000
    done = subprocess.run(
        [sys.executable, "train.py", f"resume={finished}", "trainer.max_epochs=2"],
        cwd=ROOT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    refused(done, FAILED, finished / "arrays" / "samples.npz", "could not be written")
    assert digests(finished / "checkpoints") == kept
    assert (finished / "status.json").read_bytes() == status  # it is as complete as it was


def test_two_runs_at_once_in_one_directory(train_cli: Cli, server: ForkServer, tmp_path: Path) -> None:
    run, stderr = tmp_path / "run", tmp_path / "stderr"
    to = {"stdout": tmp_path / "stdout", "stderr": stderr, "environment": {**os.environ}}
    first = server.start("train.py", f"hydra.run.dir={run}", *SMALL, **to)
    try:
        deadline = time.monotonic() + 120
        while not (run / "manifest.json").exists():
            assert first.poll() is None, stderr.read_text()
            assert time.monotonic() < deadline, "the first run has not begun"
            time.sleep(0.02)
        first.send_signal(signal.SIGSTOP)  # it holds the directory for as long as the others try
        assert json.loads((run / "status.json").read_text())["state"] == "running"
        before = digests(run)
        fresh = train_cli(f"hydra.run.dir={run}", *SMALL, check=False)
        resumed = train_cli(f"resume={run}", check=False)
        refused(fresh, BAD_COMMAND, f"hydra.run.dir={run}", "already holds a run")
        refused(resumed, BAD_COMMAND, run, f"in use by process {first.pid}")
        assert digests(run) == before
        first.send_signal(signal.SIGCONT)
        assert first.wait() == 0
    finally:
        first.kill()
    assert stderr.read_text() == ""
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert (run / "summary.json").exists()
