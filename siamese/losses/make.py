"""From a node of the configuration to a loss: what the library calls distances, reducers, miners and
regularizers goes by a name, or by a name with arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_pairs, convert_to_triplets
from torch import Tensor, nn

from siamese.config.schema import OWN_KEYS
from siamese.config.targets import check_arguments, find_target, parameters, targets
from siamese.errors import ConfigError, nearest
from siamese.losses import library
from siamese.losses.base import Loss, traits
from siamese.losses.n_pair import ConstellationLoss

_REGULARIZERS: dict[str, Callable[..., Any]] = {
    "center_invariant": regularizers.CenterInvariantRegularizer,
    "lp": regularizers.LpRegularizer,
    "regular_face": regularizers.RegularFaceRegularizer,
    "sparse_centers": regularizers.SparseCentersRegularizer,
    "zero_mean": regularizers.ZeroMeanRegularizer,
}

# What an argument of the library's classes may name. ``{name: lp, p: 1}`` gives arguments too.
NAMED: dict[str, dict[str, Callable[..., Any]]] = {
    "distance": {
        "cosine": distances.CosineSimilarity,
        "dot_product": distances.DotProductSimilarity,
        "euclidean": functools.partial(distances.LpDistance, p=2),
        "squared_euclidean": functools.partial(distances.LpDistance, p=2, power=2),
        "lp": distances.LpDistance,
        "snr": distances.SNRDistance,
    },
    "reducer": {
        "mean": library.MeanReducer,
        "avg_non_zero": reducers.AvgNonZeroReducer,
        "sum": reducers.SumReducer,
        "divisor": reducers.DivisorReducer,
        "per_anchor": reducers.PerAnchorReducer,
        "threshold": reducers.ThresholdReducer,
    },
    "miner": {
        "all": functools.partial(miners.TripletMarginMiner, type_of_triplets="all"),
        "hard": functools.partial(miners.TripletMarginMiner, type_of_triplets="hard"),
        "semihard": functools.partial(miners.TripletMarginMiner, type_of_triplets="semihard"),
        "easy": functools.partial(miners.TripletMarginMiner, type_of_triplets="easy"),
        "angular": miners.AngularMiner,
        "batch_hard": miners.BatchHardMiner,
        "batch_easy_hard": miners.BatchEasyHardMiner,
        "distance_weighted": miners.DistanceWeightedMiner,
        "hdc": miners.HDCMiner,
        "multi_similarity": miners.MultiSimilarityMiner,
        "pair_margin": miners.PairMarginMiner,
        "uniform": miners.UniformHistogramMiner,
    },
    "weight_regularizer": _REGULARIZERS,
    "embedding_regularizer": _REGULARIZERS,
    "weight_init_func": {
        name: getattr(nn.init, f"{name}_")
        for name in ("normal", "uniform", "xavier_normal", "xavier_uniform", "kaiming_normal", "kaiming_uniform")
    },
}
LABELS = "labels"  # in the place of a miner: every tuple that the labels allow

_REFUSALS = (TypeError, ValueError, AssertionError, NotImplementedError, KeyError, IndexError, RuntimeError)


def make_loss(node: Mapping[str, Any], num_classes: int, embedding_size: int | None, key: str = "loss") -> nn.Module:
    """The loss that ``node`` describes, in the convention ``loss(embeddings, labels, indices_tuple)``.

    ``num_classes`` and ``embedding_size`` (None where the model does not say) are handed to a loss
    that needs them. Its own parameters are drawn from torch's generator.

    Raises:
        ConfigError: for a name that is not known, an argument that does not exist, or what the loss refuses.
    """
    path = node["_target_"]
    target = find_target(key, path)
    own = OWN_KEYS["loss"]
    given = {k: v for k, v in node.items() if k != "_target_" and k not in own}
    supplied: dict[str, Any] = {"num_classes": num_classes, "embedding_size": embedding_size}
    if given.get("num_classes") not in (None, num_classes):
        raise ConfigError(f"{key}.num_classes={given['num_classes']}: expected {num_classes}, the classes of the data")
    if isinstance(target, type) and issubclass(target, losses.BaseMetricLossFunction):
        given = {k: make_named(f"{key}.{k}", k, v, supplied) if k in NAMED else v for k, v in given.items()}
    remembers = isinstance(target, type) and issubclass(target, losses.CrossBatchMemory)
    miner = None if node.get("miner") == LABELS else make_named(f"{key}.miner", "miner", node.get("miner"), supplied)
    if "losses" in given:
        given["losses"] = _several(given["losses"], given.get("weights"), supplied, key)
    if remembers:
        given["loss"] = _remembered(given["loss"], supplied, key)
        given["miner"] = miner
    takes = parameters(target)
    given |= {k: v for k, v in supplied.items() if k in takes and takes[k].default is inspect.Parameter.empty}
    try:
        loss = target(**given)
    except _REFUSALS as error:
        options = ", ".join(f"{key}.{k}={v}" for k, v in node.items() if k != "_target_" and k not in own)
        raise ConfigError(f"{key}: {path} refuses {options or 'to be made'} ({_reason(error)})") from error
    if isinstance(loss, losses.BaseMetricLossFunction):
        _check_made(loss, given, key)
    if node.get("miner") is None or remembers:
        return loss
    return Mined(loss, miner)


def weighs_classes(node: Mapping[str, Any]) -> bool:
    """Whether the loss that ``node`` describes, or one in it, has weights for each class."""
    return any(
        "num_classes" in (takes := parameters(find_target(key, one["_target_"])))
        and takes["num_classes"].default is inspect.Parameter.empty
        for key, one in targets("loss", node)
    )


def _check_made(loss: losses.BaseMetricLossFunction, given: Mapping[str, Any], key: str) -> None:
    """Refuse what the library would round, or find out about in the first batch."""
    if type(loss) in (losses.LargeMarginSoftmaxLoss, losses.SphereFaceLoss) and loss.margin != given["margin"]:
        raise ConfigError(f"{key}.margin={given['margin']}: expected a whole number")
    divides = isinstance(given.get("reducer"), reducers.DivisorReducer)
    if divides and not isinstance(loss.get_default_reducer(), reducers.DivisorReducer):
        raise ConfigError(f"{key}.reducer=divisor: {type(loss).__name__} names no divisor; expected mean or another")


def _several(
    nodes: Mapping[str, Any], weights: Mapping[str, Any] | None, supplied: Mapping[str, Any], key: str
) -> dict[str, nn.Module]:
    if not isinstance(nodes, Mapping):
        raise ConfigError(f"{key}.losses={nodes}: expected names below it (loss@{key}.losses.NAME=LOSS)")
    if weights is not None and weights.keys() != nodes.keys():
        raise ConfigError(f"{key}.weights={dict(weights)}: expected a weight for each of {', '.join(nodes)}")
    return {name: make_loss(inner, key=f"{key}.losses.{name}", **supplied) for name, inner in nodes.items()}


def _remembered(node: Mapping[str, Any], supplied: Mapping[str, Any], key: str) -> nn.Module:
    """The loss inside a memory, which gives it tuples of its own."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"{key}.loss={node}: expected an option of conf/loss, chosen as loss@{key}.loss={node}")
    if node.get("miner") not in (None, LABELS):
        raise ConfigError(
            f"{key}.loss.miner={node['miner']}: a memory mines itself; expected {key}.miner={node['miner']}"
        )
    names = losses.CrossBatchMemory.supported_losses()
    name = node["_target_"].rpartition(".")[2]
    if name not in names:
        raise ConfigError(f"{key}.loss._target_={node['_target_']}: a memory can hold {', '.join(names)}")
    return make_loss({**node, "miner": None}, key=f"{key}.loss", **supplied)


def make_named(key: str, kind: str, value: Any, supplied: Mapping[str, Any]) -> Any:
    """What ``value``, a name or ``{name: NAME, argument: value, …}``, means as the ``kind`` of :data:`NAMED`.

    Raises:
        ConfigError: for another name, or arguments that what it names does not take or refuses.
    """
    if value is None:
        return None
    node = value if isinstance(value, Mapping) else {"name": value}
    name, known = node.get("name"), NAMED[kind]
    given = {k: v for k, v in node.items() if k != "name"}
    if name not in known:
        names = [*known, LABELS] if kind == "miner" else [*known]
        raise ConfigError(f"{key}={value}: expected null or one of {', '.join(names)}{nearest(str(name), names)}")
    target = known[name]
    if kind == "weight_init_func":
        check_arguments(key, name, target, given, supplied=("tensor",))
        return functools.partial(target, **given)
    check_arguments(key, name, target, given, supplied)
    given = {k: make_named(f"{key}.{k}", k, v, supplied) if k in NAMED else v for k, v in given.items()}
    takes = parameters(target)
    given |= {k: v for k, v in supplied.items() if k in takes and takes[k].default is inspect.Parameter.empty}
    try:
        return target(**given)
    except _REFUSALS as error:
        raise ConfigError(f"{key}={value}: {name} refuses that ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


Tried = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...] | None]]


class Mined(Loss):
    """``loss`` on the tuples that ``miner`` finds in the micro-batch, in the place of those drawn.

    A loss of the library takes triplets or pairs, any other what is found in the form of what was
    drawn. A micro-batch in which nothing is found counts zero. Without a miner, ``loss`` is told of
    no tuples and forms every one that the labels allow.
    """

    uses_tuples = False

    def __init__(self, loss: nn.Module, miner: nn.Module | None) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner
        said = traits(loss)
        self.batch_dependent = miner is not None or said.depends(drawn=False)
        self.remembers = said.remembers

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        if self.miner is None:
            return self.loss(embeddings, labels, None)
        found = self.miner(embeddings, labels)
        if indices_tuple is not None and not isinstance(self.loss, losses.BaseMetricLossFunction):
            form = convert_to_triplets if len(indices_tuple) == 3 else convert_to_pairs
            found = form(found, labels)
        if not any(map(len, found)):
            return embeddings.sum() * 0
        return self.loss(embeddings, labels, found)


def try_out(node: Mapping[str, Any], tuples_of: Tried, images: int, embedding_size: int | None) -> None:
    """Make the loss of ``node`` and run it once, on a few embeddings, to learn what it refuses.

    Args:
        tuples_of: what a loss gets of labels int64 [n], a few of each of some classes: rows of them, and tuples of
            those rows, as in a micro-batch.
        images: that it is called with at once.

    Raises:
        ConfigError: for settings that do not go together, or that give no finite value.
    """
    num_classes = node.get("num_classes") or 4
    labels = torch.arange(4).remainder(num_classes).repeat(3)
    with torch.random.fork_rng(devices=[]):
        loss = make_loss(node, num_classes, embedding_size)
        z = nn.functional.normalize(torch.randn(len(labels), embedding_size or 8), dim=1)
    if isinstance(loss, losses.CrossBatchMemory) and loss.memory_size < images:
        raise ConfigError(
            f"loss.memory_size={loss.memory_size}: expected at least the {images} images that it is called with at once"
        )
    if isinstance(loss, ConstellationLoss) and loss.negatives > images - 2:
        raise ConfigError(
            f"loss.negatives={loss.negatives}: expected at most {images - 2}, "
            f"what a pair leaves of the {images} images of a micro-batch"
        )
    rows, tuples = tuples_of(labels)
    try:
        value = loss(z[rows], labels[rows], tuples)
    except _REFUSALS as error:
        raise ConfigError(f"loss: {node['_target_']} refuses its settings ({_reason(error)})") from error
    if not value.isfinite():
        settings = ", ".join(f"loss.{k}={v}" for k, v in node.items() if isinstance(v, (int, float)))
        raise ConfigError(f"loss: {node['_target_']} is {value.item()} with {settings}; expected a finite value")
