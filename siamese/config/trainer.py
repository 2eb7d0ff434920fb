"""The keys of ``trainer``: those arguments of Lightning's Trainer that break no promise of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from siamese.config.fields import key, where
from siamese.config.ranges import SHARE_OR_COUNT, Range, above, at_least, one_of

MAX_TIME: Range = (
    lambda v: re.fullmatch(r"\d+(:\d\d){3}", v) is not None and seconds(v) > 0,
    "DD:HH:MM:SS, such as 00:08:00:00 for eight hours",
)
DETERMINISTIC: Range = (lambda v: v is True or v is False or v == "warn", "one of true, false, warn")


@dataclass(frozen=True)
class Trainer:
    """Lightning's own keys."""

    max_epochs: int = key(15, at_least(1))
    min_epochs: int | None = key(None, at_least(1), "callbacks.patience ends no run before")
    max_steps: int | None = key(None, at_least(1), "end after so many optimizer steps, within an epoch too")
    min_steps: int | None = key(None, at_least(1), "callbacks.patience ends no run before so many optimizer steps")
    max_time: str | None = key(None, MAX_TIME, "end at the first step after so long: DD:HH:MM:SS")
    accumulate_grad_batches: int = key(1, at_least(1), "micro-batches in a window")
    gradient_clip_val: float | None = key(None, above(0))
    gradient_clip_algorithm: str = key("norm", one_of("norm", "value"))
    limit_train_batches: Union[int, float] = key(  # noqa: UP007 (OmegaConf reads this form)
        1.0, SHARE_OR_COUNT, "a fraction, or a number of micro-batches"
    )
    overfit_batches: Union[int, float, None] = key(  # noqa: UP007
        None, SHARE_OR_COUNT, "train on the same micro-batches in every epoch: a fraction of them, or a number"
    )
    check_val_every_n_epoch: int = key(1, at_least(1), "measure, and save, after every so many epochs")
    deterministic: bool | str = key(False, DETERMINISTIC, "refuse what does not repeat bit for bit, or warn of it")
    benchmark: bool | None = key(None, None, "let cuDNN try what is fastest; null = as torch is set")
    detect_anomaly: bool = key(False, None, "stop at the operation that first makes a NaN in the backward pass")
    inference_mode: bool = where(True, None, "measure in torch's inference mode; false = under no_grad alone")
    log_every_n_steps: int = where(50, at_least(1), "steps between two that go to logger")
    profiler: str | None = where(None, one_of("simple", "advanced"), "write what took how long to profile/ of the run")


# The other arguments of Lightning's Trainer, of this version and earlier ones, and what to write instead.
NOT_PASSED = {
    "accelerator": "device=cpu|cuda|mps, or device.accelerator",
    "auto_lr_find": "python scripts/lr_find.py, which suggests a rate",
    "auto_scale_batch_size": "data.batch_size=N",
    "barebones": "nothing, for a run records what it computes",
    "callbacks": "callbacks.extra.NAME._target_=...",
    "checkpoint_callback": "callbacks.checkpoint_every=N, for best.ckpt and last.ckpt are always kept",
    "default_root_dir": "hydra.run.dir=DIR, for a run writes nothing anywhere else",
    "devices": "device.devices=N, under device=cpu_ddp or device=cuda_ddp",
    "enable_autolog_hparams": "nothing, for every logger is given the whole configuration",
    "enable_checkpointing": "callbacks.checkpoint_every=N, for best.ckpt and last.ckpt are always kept",
    "enable_model_summary": "nothing, for the configuration describes the network",
    "enable_progress_bar": "callbacks.progress_bar=false",
    "fast_dev_run": "debug=fast, one short epoch",
    "gpus": "device=cuda, and device=cuda_ddp device.devices=N for several",
    "limit_predict_batches": "nothing, for every measure is over the whole part; data.images_per_class=N trains on few",
    "limit_test_batches": "nothing, for every measure is over the whole part; data.test_fraction=X holds fewer out",
    "limit_val_batches": "nothing, for every measure is over the whole part; data.val_fraction=X holds fewer out",
    "logger": "logger=tensorboard|mlflow|wandb",
    "model_registry": "nothing, for a run writes nothing anywhere else",
    "num_nodes": "device.num_nodes=N, under torchrun or srun",
    "num_sanity_val_steps": "nothing, for epoch 0 is the whole validation before training",
    "plugins": "device.precision, for the others are how checkpoints are written whole",
    "precision": "device.precision=auto|32-true|bf16-mixed|16-mixed|64-true",
    "progress_bar_refresh_rate": "callbacks.progress_bar=false",
    "reload_dataloaders_every_n_epochs": "data.triplets=resampled, for what an epoch holds is a function of the seed",
    "replace_sampler_ddp": "nothing, for each micro-batch is shared out among the devices",
    "resume_from_checkpoint": "resume=RUN, which goes on from its last checkpoint",
    "stochastic_weight_avg": "callbacks.swa=EPOCH",
    "strategy": "device=cpu_ddp|cuda_ddp, or device.strategy",
    "sync_batchnorm": "a model with another norm, for BatchNorm is of each micro-batch on its device",
    "tpu_cores": "device=cpu|cuda|mps",
    "track_grad_norm": "accumulation.measure_every=N, or a callback of your own below callbacks.extra",
    "use_distributed_sampler": "nothing, for each micro-batch is shared out among the devices",
    "val_check_interval": "nothing, for every epoch is validated once; trainer.limit_train_batches=N makes them short",
}


def seconds(time: str) -> int:
    """``DD:HH:MM:SS`` in seconds."""
    days, hours, minutes, rest = map(int, time.split(":"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest
