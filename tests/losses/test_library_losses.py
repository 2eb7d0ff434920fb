"""Losses and miners of pytorch-metric-learning: as the library's own, finite on every batch, trained and resumed."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from pytorch_metric_learning import distances, losses, miners, regularizers
from support.images import toy_images
from support.processes import ROOT
from torch import Tensor, nn

from siamese.commands import losses as losses_command
from siamese.config.schema import Config
from siamese.config.targets import find_target, parameters
from siamese.config.trust import refuse_strangers
from siamese.config.validate import validate
from siamese.data import SiameseData
from siamese.errors import ConfigError
from siamese.losses import KoLeo, Objective, traits
from siamese.losses.make import LABELS, NAMED, make_loss
from siamese.training.build import build, make_kind, make_trainer
from siamese.training.check import Command, check, job_config
from siamese.training.module import SiameseModule

CLASSES, SIZE = 4, 8
Tuples = tuple[Tensor, ...] | None
NODES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((ROOT / "conf/loss").glob("*.yaml"))}
LIBRARY = [
    name
    for name, node in NODES.items()
    if str(node.get("_target_")).startswith(("siamese.losses.library", "pytorch_metric_learning"))
]
WRAPPERS = ["cross_batch_memory", "multiple", "proxy_softmax_supcon"]
SINGLE = [name for name in LIBRARY if name not in WRAPPERS]


pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # the library's


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(*words: str) -> Any:
    config = compose("train", ["model=conv_small", "model.width=4", *words], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return job_config(config)


def checked(*words: str) -> Config:
    return check(Command(composed(*words), words), Path())


def made(name: str, *words: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make_loss(node(f"loss={name}", *words), CLASSES, SIZE)


@functools.cache
def node(*words: str) -> Any:
    return dict(validate(composed(*words)).loss)


def batch(labels: list[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    z = torch.randn(len(labels), SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return nn.functional.normalize(z, dim=1), torch.tensor(labels)


def triplets(count: int) -> tuple[Tensor, ...]:
    return tuple(torch.arange(3 * count).view(3, -1))


ORDINARY = batch([0, 1, 2, 3, 0, 1, 2, 3, 1, 2, 3, 0])  # four triplets: anchors, positives, negatives


def forms(name: str) -> list[str]:
    return [kind for kind in NODES[name]["batches"] if kind in ("triplets", "pairs", "balanced")]


def tuples_of(kind: str, count: int) -> Tuples:
    a, p, n = triplets(count)
    return {"triplets": (a, p, n), "pairs": (a, p, p, n), "balanced": None}[kind]


def direct(name: str) -> nn.Module:
    """The library's loss with the library's defaults, the numbers of classes and dimensions apart."""
    cls = getattr(losses, find_target("loss", NODES[name]["_target_"]).__name__)
    needs = {k: v.default is inspect.Parameter.empty for k, v in parameters(cls).items()}
    sizes = {"num_classes": CLASSES, "embedding_size": SIZE}
    torch.manual_seed(0)
    return cls(**{k: v for k, v in sizes.items() if needs.get(k)})


@pytest.mark.parametrize("name", SINGLE)
def test_every_option_is_written_out_and_is_the_librarys_default(name: str) -> None:
    takes = parameters(find_target("loss", NODES[name]["_target_"]))
    supplied = {k for k in ("num_classes", "embedding_size") if k in takes and takes[k].default is takes[k].empty}
    without = {"collect_stats", *(("distance", "embedding_regularizer", "embedding_reg_weight") * (name == "vicreg"))}
    assert NODES[name].keys() - {"_target_", "batches", "miner"} == takes.keys() - supplied - without
    z, labels = ORDINARY
    for kind in forms(name):
        indices = tuples_of(kind, 4)
        ours, theirs = made(name), direct(name)
        given = None if NODES[name].get("miner") == LABELS else indices
        if name == "vicreg":
            reference = theirs(z[:4], ref_emb=z[4:8])
        elif name == "smooth_ap":  # right in the library where classes follow each other, p classes of p
            z, labels = batch([0] * 4 + [1] * 4 + [2] * 4 + [3] * 4)
            reference = theirs(z, labels)
        else:
            reference = theirs(z, labels, given)
        assert ours(z, labels, indices).item() == pytest.approx(reference.item(), rel=1e-5, abs=1e-7)
        assert reference.item() != 0


DEGENERATE = {
    "no positives": batch([0, 1, 2]),
    "one class": batch([2] * 6),
    "duplicates": (torch.ones(6, SIZE) / SIZE**0.5, torch.tensor([0, 1, 0, 1, 1, 0])),
    "opposites": (
        torch.eye(SIZE)[0].expand(6, -1) * torch.tensor([1.0, 1, 1, -1, 1, -1])[:, None],
        torch.tensor([0, 1, 0, 1, 1, 0]),
    ),
    "one triplet": batch([0, 0, 1]),
}


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("case", ["ordinary", *DEGENERATE])
def test_value_and_gradient_are_finite(name: str, case: str) -> None:
    z, labels = ORDINARY if case == "ordinary" else DEGENERATE[case]
    for kind in forms(name):
        loss = made(name)
        z = z.detach().clone().requires_grad_()
        value = loss(z, labels, tuples_of(kind, len(z) // 3))
        value.backward()
        gradients = [z.grad, *(p.grad for p in loss.parameters())]
        assert value.isfinite()
        assert all(g is None or g.isfinite().all() for g in gradients)
        assert case != "ordinary" or any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_corrections_are_needed_and_hold() -> None:
    """What the library makes of the batches that it is corrected for."""
    z, labels = DEGENERATE["no positives"]
    assert losses.NCALoss()(z, labels).isnan()
    assert made("nca")(z, labels, None) == 0
    z = torch.eye(SIZE)[[0, 1, 0, 1, 2, 3]].requires_grad_()
    losses.TupletMarginLoss()(z, torch.arange(6) % 2, triplets(2)).backward()
    assert not z.grad.isfinite().all()  # type: ignore[union-attr]


def test_smooth_ap_is_its_formula_for_labels_in_any_order() -> None:
    z, labels = batch([0, 2, 1, 0, 0, 1, 2, 3], dtype=torch.float64)
    s = (z @ z.t()).tolist()
    total = 0.0
    for q in range(len(z)):
        members = [i for i in range(len(z)) if labels[i] == labels[q]]
        ratios = []
        for i in members:
            ahead = {j: 1 / (1 + np.exp(-(s[q][j] - s[q][i]) / 0.3)) for j in range(len(z)) if j != i}
            ratios.append((1 + sum(v for j, v in ahead.items() if j in members)) / (1 + sum(ahead.values())))
        total += 1 - sum(ratios) / len(members)
    value = made("smooth_ap", "loss.temperature=0.3")(z, labels, None)
    assert value.item() == pytest.approx(total / len(z), abs=1e-12)


ORDERED = ("n_pairs_pml", "vicreg", "cross_batch_memory")  # the pair of a class, view 1 and view 2, the queue


@pytest.mark.parametrize("name", [name for name in LIBRARY if name not in ORDERED])
def test_the_order_of_the_batch_changes_nothing(name: str) -> None:
    z, labels = ORDINARY
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    loss = made(name)
    for kind in forms(name):
        indices = tuples_of(kind, 4)
        moved = None if indices is None else tuple(order.argsort()[i] for i in indices)
        assert loss(z[order], labels[order], moved).item() == pytest.approx(loss(z, labels, indices).item(), rel=1e-5)


@pytest.mark.parametrize("name", LIBRARY)
def test_float32_whatever_the_embeddings_come_in(name: str) -> None:
    base = made(name)
    objective = Objective(name, base, KoLeo("all", 1), 0.0)
    z, labels = ORDINARY
    low = z.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value, _ = objective(low, labels, triplets(4))
    value.backward()
    assert value.dtype == torch.float32
    assert all(w.dtype != torch.bfloat16 for w in objective.state_dict().values())
    base = made(name)
    assert value.item() == pytest.approx(base(low.detach().float(), labels, triplets(4)).item(), rel=1e-6)


REFERENCE_MINERS = {
    "all": miners.TripletMarginMiner(margin=0.2, type_of_triplets="all"),
    "hard": miners.TripletMarginMiner(margin=0.2, type_of_triplets="hard"),
    "semihard": miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard"),
    "easy": miners.TripletMarginMiner(margin=0.2, type_of_triplets="easy"),
    "angular": miners.AngularMiner(),
    "batch_hard": miners.BatchHardMiner(),
    "batch_easy_hard": miners.BatchEasyHardMiner(),
    "distance_weighted": miners.DistanceWeightedMiner(),
    "hdc": miners.HDCMiner(),
    "multi_similarity": miners.MultiSimilarityMiner(),
    "pair_margin": miners.PairMarginMiner(),
    "uniform": miners.UniformHistogramMiner(),
}


def test_each_miner_has_a_reference() -> None:
    assert REFERENCE_MINERS.keys() == NAMED["miner"].keys()


@pytest.mark.parametrize("miner", NAMED["miner"])
def test_mining_is_the_librarys_and_takes_the_place_of_the_drawn_triplets(miner: str) -> None:
    z, labels = ORDINARY
    torch.manual_seed(1)
    found = REFERENCE_MINERS[miner](z, labels)
    for name, reference in (("multi_similarity", losses.MultiSimilarityLoss()), ("margin", losses.MarginLoss())):
        for drawn in (triplets(4), None):
            loss = made(name, f"loss.miner={miner}")
            torch.manual_seed(1)
            assert loss(z, labels, drawn).item() == pytest.approx(reference(z, labels, found).item(), rel=1e-5), name
    own = made("triplet", f"loss.miner={miner}")
    torch.manual_seed(1)
    a, p, n = found if len(found) == 3 else _all_triplets(*found)
    cosine = z @ z.t()
    expected = (cosine[a, n] - cosine[a, p] + 0.4).relu().mean() if len(a) else torch.zeros(())
    assert own(z, labels, triplets(4)).item() == pytest.approx(expected.item(), rel=1e-5)


def _all_triplets(a1: Tensor, p: Tensor, a2: Tensor, n: Tensor) -> Tensor:
    found = [(a, i, j) for a, i in zip(a1, p, strict=True) for b, j in zip(a2, n, strict=True) if a == b]
    return torch.tensor(found).view(-1, 3).t()


@pytest.mark.parametrize("miner", NAMED["miner"])
@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0, 0], [0, 1, 2]])
def test_where_nothing_is_mined_the_loss_is_zero(miner: str, labels: list[int]) -> None:
    z, classes = batch(labels)
    z.requires_grad_()
    value = made("triplet", f"loss.miner={miner}")(z, classes, triplets(len(labels) // 3))
    value.backward()
    assert value == 0
    assert torch.equal(z.grad, torch.zeros_like(z))  # type: ignore[arg-type]


def test_arguments_of_named_parts_reach_them() -> None:
    z, labels = ORDINARY
    loss = made("supcon", "loss.distance={name:lp,p:1}", "loss.miner={name:semihard,margin:0.5,distance:cosine}")
    mined = miners.TripletMarginMiner(0.5, "semihard", distance=distances.CosineSimilarity())(z, labels)
    reference = losses.SupConLoss(distance=distances.LpDistance(p=1))(z, labels, mined)
    assert loss(z, labels, None).item() == pytest.approx(reference.item(), rel=1e-6)
    loss = made("arcface", "loss.weight_regularizer=regular_face", "loss.weight_reg_weight=3")
    plain = made("arcface")
    regularizer = regularizers.RegularFaceRegularizer()(plain.get_parameter("loss.W").t())
    expected = plain(z, labels, None) + 3 * regularizer
    assert loss(z, labels, None).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_memory_is_the_librarys_in_training_and_nothing_is_enqueued_in_evaluation() -> None:
    ours = made("cross_batch_memory", "loss.memory_size=30", "loss.miner=pair_margin")
    theirs = losses.CrossBatchMemory(losses.ContrastiveLoss(), SIZE, 30, miners.PairMarginMiner())
    for seed in range(4):  # the queue goes round
        z, labels = batch(ORDINARY[1].tolist(), seed)
        assert ours(z, labels, triplets(4)).item() == pytest.approx(theirs(z, labels).item(), rel=1e-6)
        before = {k: v.clone() for k, v in ours.state_dict().items()}
        ours.eval()
        found = miners.PairMarginMiner()(z, labels)
        expected = losses.ContrastiveLoss()(z, labels, found)
        assert ours(z, labels, triplets(4)).item() == pytest.approx(expected.item(), rel=1e-6)
        assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())
        ours.train()


def test_several_losses_add_up_with_their_weights_and_their_own_miners() -> None:
    words = ["loss@loss.losses.first=supcon", "loss.losses.first.miner=batch_hard", "loss.weights.second=3"]
    z, labels = ORDINARY
    expected = losses.SupConLoss()(z, labels, miners.BatchHardMiner()(z, labels))
    expected = expected + 3 * losses.IntraPairVarianceLoss()(z, labels, triplets(4))
    assert made("multiple", *words)(z, labels, triplets(4)).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "depends"),
    [
        ("loss=arcface", False),
        ("loss=proxy_nca", False),
        ("loss=arcface loss.reducer=sum", True),
        ("loss=arcface loss.miner=batch_hard", True),
        ("loss=proxy_anchor", True),
        ("loss=supcon", True),
        ("loss=triplet_margin", True),  # averages over the terms above zero of the batch
        ("loss=triplet_margin loss.reducer=mean", False),
        ("loss=contrastive_pml loss.reducer=mean loss.miner=labels", True),
        ("loss=triplet", False),
        ("loss=triplet loss.miner=semihard", True),
        ("loss=multiple", True),
        ("loss=cross_batch_memory", True),
    ],
)
def test_batch_dependence_is_what_it_is(words: str, depends: bool) -> None:
    """Said, and true: the mean over two halves of a batch equals the whole, or it does not."""
    first, *more = words.split()
    loss = made(first.removeprefix("loss="), *more)
    assert traits(loss).batch_dependent is depends
    if "memory" in words:
        return
    z, labels = batch([0, 1, 2, 3, 2, 1] * 2 + [3, 2, 1, 0, 1, 2])
    with torch.no_grad():
        whole = float(loss(z, labels, triplets(6)))
        halves = [float(loss(z[i::2], labels[i::2], triplets(3))) for i in range(2)]
    assert (whole == pytest.approx(sum(halves) / 2, rel=1e-4)) is not depends


TOY = ["device=cpu", "data.batch_size=12", "data.triplets=resampled", "data.negatives_per_class=12"]


def toy(*words: str) -> tuple[Config, SiameseData, SiameseModule]:
    config = checked(*TOY, "trainer.max_epochs=2", *words)
    data = SiameseData(toy_images([30, 30, 30, 30], test=24), _whole(config), config.seed, make_kind(config))
    torch.manual_seed(config.seed)
    return config, data, build(config, data)


def _whole(config: Config) -> Any:
    return dataclasses.replace(config.data, images_per_class=None, val_fraction=0.2, image_size=8)


def test_own_parameters_are_a_group_with_their_rate() -> None:
    for words, rates in (
        (["loss=proxy_anchor"], [5e-4, 5e-4]),
        (["loss=proxy_anchor", "loss.lr=0.1"], [5e-4, 0.1]),
        (["loss=supcon", "loss.lr=0.1"], [5e-4]),
        (["loss=margin", "loss.learn_beta=true", "loss.num_classes=4", "loss.lr=0.1"], [5e-4, 0.1]),
    ):
        config, _, module = toy(*words)
        optimizer = module.make_optimizer(module.parameter_groups())
        assert [group["lr"] for group in optimizer.param_groups] == rates
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in module.parameters()}
    config, _, module = toy("loss=proxy_anchor", "loss.lr=0.1", "scheduler=one_cycle", "scheduler.max_lr=0.01")
    optimizer = module.make_optimizer(module.parameter_groups())
    peaks = [[], []]  # type: ignore[var-annotated]
    schedule = module.make_schedule(optimizer, 20)
    assert schedule is not None
    for _ in range(20):
        for group, seen in zip(optimizer.param_groups, peaks, strict=True):
            seen.append(group["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    assert max(peaks[1]) / max(peaks[0]) == pytest.approx(0.1 / config.optimizer["lr"])
    assert max(peaks[0]) == pytest.approx(0.01, rel=1e-3)


def test_weights_of_a_loss_are_drawn_from_the_seed_alone() -> None:
    def proxies(*words: str) -> Tensor:
        return toy("loss=proxy_anchor", *words)[2].objective.get_parameter("base.loss.proxies").detach()

    assert torch.equal(proxies(), proxies("model.width=8"))
    assert not torch.equal(proxies(), proxies("seed=1"))
    with_proxies, without = toy("loss=proxy_anchor")[2], toy("loss=triplet")[2]
    for ours, theirs in zip(with_proxies.net.parameters(), without.net.parameters(), strict=True):
        assert torch.equal(ours, theirs)


EVERYTHING = [  # proxies, a queue and random mining in one run
    "loss=multiple",
    "loss@loss.losses.first=proxy_anchor",
    "loss@loss.losses.second=cross_batch_memory",
    "loss.losses.second.memory_size=50",
    "+loss.losses.second.miner=distance_weighted",
    "loss.lr=0.05",
]


def test_a_resumed_run_ends_bit_for_bit_as_one_that_never_stopped(tmp_path: Path) -> None:
    config, data, module = toy(*EVERYTHING)
    start = {k: v.clone() for k, v in module.state_dict().items()}
    states = []

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            states.append(torch.get_rng_state())
            trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt")

    trainer = make_trainer(config, tmp_path, [])
    trainer.callbacks.append(Save())  # type: ignore[attr-defined]
    trainer.fit(module, datamodule=data)
    end = module.state_dict()
    moved = {k for k in start if not torch.equal(start[k], end[k])}
    assert {k for k in start if "proxies" in k or "memory" in k} <= moved
    _, data, again = toy(*EVERYTHING)
    resumed = make_trainer(config, tmp_path, [])

    class Restore(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            torch.set_rng_state(states[0])

    resumed.callbacks.append(Restore())  # type: ignore[attr-defined]
    resumed.fit(again, datamodule=data, ckpt_path=tmp_path / "0.ckpt", weights_only=True)
    assert all(torch.equal(v, end[k]) for k, v in again.state_dict().items())


@pytest.mark.parametrize("name", ["supcon", "cross_batch_memory", "proxy_anchor", "large_margin_softmax"])
def test_the_loss_of_validation_depends_on_no_batch_size_and_changes_nothing(name: str, tmp_path: Path) -> None:
    values = set()
    for words in ([], ["data.batch_size=5", "data.eval_batch_size=7"]):
        config, data, module = toy(f"loss={name}", *words)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        generator = torch.get_rng_state()
        make_trainer(config, tmp_path, []).validate(module, datamodule=data, verbose=False)
        assert torch.equal(generator, torch.get_rng_state())
        assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
        values.add(round(module.measured["loss"], 5))
        make_trainer(config, tmp_path, []).fit(module, datamodule=data)  # and training goes on after it
    assert len(values) == 1


def test_the_loss_of_validation_is_a_mean_over_batches_of_all_classes() -> None:
    _, data, module = toy("loss=ntxent")
    index = data.parts["validation"]
    data.triplets["validation"] = np.tile(data.triplets["validation"], (8, 1))
    module.embeddings = nn.functional.normalize(torch.randn(len(index), 128), dim=1)
    labels = data.source.labels[torch.from_numpy(index)]
    many = torch.from_numpy(np.searchsorted(index, data.triplets["validation"]))
    batches = -(-len(many) // 64)
    assert batches > 1
    total = 0.0
    for rows in (many[i::batches].t().flatten() for i in range(batches)):
        assert len(labels[rows].unique()) == 4
        value = losses.NTXentLoss()(module.embeddings[rows], labels[rows], triplets(len(rows) // 3))
        total += float(value) * len(rows) / 3
    assert float(module._loss("validation", module.embeddings, labels)) == pytest.approx(total / len(many), rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("loss=supcon loss.miner=semihrd", "loss.miner=semihrd: expected null or one of all, hard"),
        ("loss=supcon loss.miner=semihrd", "did you mean 'semihard'"),
        ("loss=supcon loss.distance=cosin", "did you mean 'cosine'"),
        ("loss=supcon loss.miner={name:semihard,margn:1}", "'loss.miner.margn': semihard takes"),
        ("loss=supcon loss.miner=3", "loss.miner=3: expected"),
        ("loss=supcon loss.temperature=0", "loss.temperature=0: expected a number above 0"),
        ("loss=supcon loss.temperature=hot", "loss.temperature=hot: expected"),
        ("loss=supcon +loss.temprature=1", "did you mean 'loss.temperature'"),
        ("loss=supcon loss.reducer=divisor", "loss.reducer=divisor: SupConLoss names no divisor"),
        ("loss=supcon loss.batches=[ballanced]", "did you mean 'balanced'"),
        ("loss=angular loss.distance=cosine", "requires the distance metric to be LpDistance"),
        ("loss=large_margin_softmax loss.margin=4.5", "loss.margin=4.5: expected a whole number"),
        ("loss=fastap loss.num_bins=2.5", "loss.num_bins=2.5: expected a whole number"),
        ("loss=vicreg batches=balanced", "cannot use it; expected batches=triplets or batches=pairs or batches=views"),
        ("loss=vicreg loss.miner=labels", "labels alone do not name them"),
        ("loss=ntxent batches=pairs", "NTXentLoss (loss) cannot use it"),
        ("loss=multiple loss@loss.losses.first=vicreg batches=balanced", "VICRegLoss (loss.losses.first) cannot use"),
        ("loss=multiple +loss@loss.losses.third=supcon", "expected a weight for each of first, second, third"),
        ("loss=cross_batch_memory loss.loss=supcon", "chosen as loss@loss.loss=supcon"),
        ("loss=cross_batch_memory loss@loss.loss=arcface", "a memory can hold AngularLoss, CircleLoss"),
        ("loss=cross_batch_memory loss@loss.loss=supcon loss.loss.miner=hard", "expected loss.miner=hard"),
        ("loss=cross_batch_memory loss@loss.loss=supcon loss.loss.temperature=0", "loss.loss.temperature=0: expected"),
        ("loss=cross_batch_memory +loss.loss.neg_margn=2", "did you mean 'loss.loss.neg_margin'"),
        ("loss=cross_batch_memory loss.memory_size=8", "at least the 192 images that it is called with at once"),
        ("loss=arcface loss.weight_regularizer=sparse_centers", "loss.weight_regularizer.centers_per_class"),
        ("loss=arcface loss.lr=0", "loss.lr=0.0: expected a number above 0"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(words: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        checked(*words.split())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_classes_that_the_data_has_not_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.num_classes=7: expected 4, the classes of the data"):
        toy("loss=margin", "loss.num_classes=7")


def test_a_run_directory_cannot_name_what_is_built_inside_a_loss() -> None:
    own = checked("loss=cross_batch_memory")
    refuse_strangers(own, [], [], "")
    own.loss["loss"]["distance"] = {"_target_": "os.system", "command": "true"}
    with pytest.raises(ConfigError, match=r"os\.system"):
        refuse_strangers(own, [], [], "")


def test_the_table_of_losses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    GlobalHydra.instance().clear()  # the script composes for itself
    monkeypatch.setattr("sys.argv", ["losses.py", "--json"])
    losses_command.main()
    told = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in told["losses"]}
    assert rows.keys() == NODES.keys()
    for row in rows.values():
        assert row["says"]
        assert re.search(r"\d{4}|pytorch_metric_learning", row["source"])
    assert rows["soft_triple"]["parameters"] == {"loss.fc": [128, 100]}
    assert rows["soft_triple"]["classes"]
    assert not rows["margin"]["classes"]
    assert rows["arcface"]["source"].startswith("Deng et al. 2019 (ArcFace")
    assert rows["arcface"]["source"].endswith("equation 3")
    assert rows["vicreg"]["batches"] == ["triplets", "pairs", "views"]
    assert "contrastive_pml" in str([r["name"] for r in rows.values() if any("pairs" in b for b in r["bases"])])
    assert set(told["bases"].values()) == {
        "pytorch_metric_learning.losses.generic_pair_loss.GenericPairLoss",
        "pytorch_metric_learning.losses.mixins.WeightRegularizerMixin",
    }
    monkeypatch.setattr("sys.argv", ["losses.py", "supcon", "triplet"])
    monkeypatch.setenv("COLUMNS", "160")
    losses_command.main()
    text = capsys.readouterr().out
    assert "Khosla et al. 2020" in text
    assert "temperature=0.1" in text
    monkeypatch.setattr("sys.argv", ["losses.py", "supcom"])
    with pytest.raises(SystemExit):
        losses_command.main()
    assert "did you mean 'supcon'" in capsys.readouterr().err
