"""Every option of conf/loss trains: a few steps on the digits leave the untrained network behind.

The options are found by themselves, each trains on the first kind of batches that it names, through the
configuration, the data, the module and the Trainer of a run.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from support.processes import ROOT

from siamese.config.data import Data
from siamese.config.schema import Config
from siamese.config.validate import validate
from siamese.data import LabelledImages, load
from siamese.training.build import build, make_trainer, split_data

pytestmark = pytest.mark.slow

LOSSES = [path.stem for path in sorted((ROOT / "conf/loss").glob("*.yaml"))]
STEPS = 24
SETTINGS = (
    *("data=digits", "data.image_size=16", "data.batch_size=48", "data.augment.crop_padding=1"),
    *("model=conv_small", "model.width=4", "model.embedding_dim=16", "optimizer.lr=0.01", "loss.lr=0.1"),
    *("trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}", "callbacks.progress_bar=false"),
    *("device=cpu", "logger=csv", "name=test"),
)
# What so few steps need besides: views that differ more, and more of them, for a loss that sees no labels.
MORE = {"instance": ("loss.gamma=5", "data.augment.crop_padding=3", "trainer.max_epochs=3")}
# The least gain in test AUC. Intra-pair variance only evens pairs out, and is made to be added to another loss.
GAINS = {"intra_pair_variance": 0.02}


@functools.cache
def digits() -> LabelledImages:
    return load(Data(source={"_target_": "siamese.data.digits"}, image_size=16), seed=0)


def configured(loss: str) -> Config:
    words = [f"loss={loss}", *SETTINGS, *MORE.get(loss, ())]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        kinds = compose("train", words).loss.batches or ["triplets"]
        return validate(compose("train", [*words, f"batches={kinds[0]}"]))


@pytest.mark.training
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.filterwarnings("ignore")
def test_a_loss_trains(loss: str, tmp_path: Path) -> None:
    config = configured(loss)
    pl.seed_everything(config.seed, verbose=False)
    data = split_data(config, digits())
    module = build(config, data)
    trainer = make_trainer(config, tmp_path, [])
    trainer.test(module, datamodule=data, verbose=False)
    untrained = module.measured
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    trained = module.measured
    assert trainer.global_step == STEPS * config.trainer.max_epochs
    assert trained["auc"] > untrained["auc"] + GAINS.get(loss, 0.05)
