"""One run, from its configuration to a complete run directory."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from siamese.config.schema import Config
from siamese.config.trust import resume_words
from siamese.config.words import pasteable
from siamese.data import SiameseData, duplicates, load_to_train
from siamese.data.images import Chosen
from siamese.errors import ConfigError, Interrupted, RunError
from siamese.evaluator.measured import Entries, entry, evaluate
from siamese.evaluator.report import FILE_ONLY, draw, tell
from siamese.losses import Objective
from siamese.memory import is_out_of_memory
from siamese.paths import near, shown
from siamese.runs.checkpoint import newest, restore
from siamese.runs.directory import FollowedRun, RunDirectory
from siamese.runs.locks import release
from siamese.training.accumulation import statement
from siamese.training.build import build, device_facts, make_callbacks, make_trainer, quieten, without_start
from siamese.training.check import Command, checked
from siamese.training.fitting import fit_batch
from siamese.training.limits import Limits
from siamese.training.logs import Logs
from siamese.training.module import SiameseModule
from siamese.training.parts import embedded_parts, evaluate_pairs
from siamese.training.precision import settled
from siamese.training.preflight import preflight_with_images
from siamese.training.ranks import join, losses_told, wait
from siamese.training.recorder import Recorder
from siamese.training.roles import follows, launched, lead
from siamese.training.samples import measure_samples, show_samples
from siamese.training.settle import settle
from siamese.training.signals import StopRequest
from siamese.training.unchanged import check_same_data, check_same_weights

log = logging.getLogger(__name__)


def train(command: Command, directory: Path) -> None:
    """Train, evaluate and record one run in ``directory``.

    Raises:
        ConfigError: for what cannot be run as it stands.
        RunError: for what fails while running.
        Interrupted: when a signal stopped it; last.ckpt is then usable.
    """
    if follows():
        logging.disable()
    config = checked(command, directory)
    run = FollowedRun(directory) if follows() else RunDirectory(directory)
    resuming = command.composed.resume is not None
    with StopRequest() as stop, _told(run, config):
        if not resuming:  # what goes on says so once nothing is in its way
            run.status("running")
        config = settled(config)
        with Logs(config, run) as logs:
            _train(config, run, stop, logs, resuming=resuming)
        run.status("completed")


def _train(config: Config, run: RunDirectory, stop: StopRequest, logs: Logs, *, resuming: bool) -> None:
    quieten()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    config, data, batch = fit_batch(config, load_to_train(config.data, config.seed), run.path)
    goes_on = resuming and any(run.checkpoints.glob("*.ckpt"))
    module = build(without_start(config) if goes_on else config, data)
    recorder, callbacks = make_callbacks(config, run, stop)
    trainer = make_trainer(config, run.path, callbacks)
    preflight_with_images(config, module, data)
    join(trainer, config.device.timeout)
    if follows():
        wait(trainer)  # for the leader has yet to make whole what is gone on from
    start = newest(run.checkpoints) if resuming else None
    weights = getattr(module.net, "weights", None)
    if resuming:
        check_same_data(run, data)
        if start is None:
            check_same_weights(run, weights)
        if not follows():
            settle(run, start, module, data, config.trainer.max_epochs)
        run.resume(config)
        run.status("running")
    elif not follows():
        if len(data.duplicates):
            found = duplicates.rows(data.source, data.parts, data.duplicates)
            log.warning("all of these pairs: %s", near(run.table("duplicates", found)))
        show_samples(run, data)
        if config.figures.draw:
            draw(run.path, run, config.figures.format)
        facts = {"device": device_facts(trainer), "batch": batch, **data.facts(), "weights": weights}
        run.begin(config, facts)
    trainer.logger = logs.open()
    log.info("%s", near(run.path))
    log.info("%s", statement(config, data.kind, module.objective, trainer.world_size))
    if resuming:
        log.info("going on from %s", start or "the beginning: there is no checkpoint yet")
    if not follows():
        wait(trainer)
    if config.device.ranks > 1 and launched() is None:
        lead()
    with losses_told(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    if not follows():
        ended = any(isinstance(callback, Limits) and callback.ended is not None for callback in callbacks)
        _conclude(config, run, module, data, recorder, logs, ended=ended)


def _conclude(
    config: Config,
    run: RunDirectory,
    module: SiameseModule,
    data: SiameseData,
    recorder: Recorder,
    logs: Logs,
    *,
    ended: bool,
) -> None:
    """Measure the best checkpoint, write what it is worth, draw and log what there is to see, and say so."""
    run.status("running")
    epoch = restore(module, run.checkpoints / "best.ckpt", run_id=run.run_id)
    trainer = make_trainer(config, run.path, [])
    summary, notes = evaluate(run, embedded_parts(module, data, trainer, config.evaluation), config.evaluation, epoch)
    if data.kind.verifies_pairs:
        found, said = evaluate_pairs(run, module, data, trainer, epoch)
        summary, notes = summary | found, notes + said
    if recorder.collapsed is not None:
        summary["val/collapsed"] = entry(1.0, "validation", recorder.collapsed, "min")
    summary |= _training_entries(run, module.objective)
    run.summary(summary)  # before all that a result does not need
    measure_samples(run, module)
    if config.figures.draw:
        draw(run.path, run, config.figures.format, logs.figure)
    logs.conclude(summary, Chosen(data.source.images, data.parts["test"]))
    tell(summary, run, config, notes, further=not ended)


def _training_entries(run: RunDirectory, objective: Objective) -> Entries:
    """The losses of the last epoch as entries of summary.json; none where its row is gone, as was said before."""
    rows = run.history()
    last = rows[-1] if rows else {}
    found = {}
    for name in ("loss", *objective.terms):
        depends = {"loss": objective.batch_dependent, "koleo": True}.get(name, objective.base_depends)
        if value := last.get(f"train/{name}"):
            found[f"train/{name}"] = entry(float(value), "train", int(last["epoch"]), "min", bool(depends))
    return found


@contextlib.contextmanager
def _told(run: RunDirectory, config: Config) -> Iterator[None]:
    """Let the directory and the log of ``run`` say how it ended, however it does, and give the directory up."""
    try:
        yield
    except (ConfigError, RunError) as error:
        log.error("%s", error, extra=FILE_ONLY)  # the last line on the terminal is the command's own
        run.ended("failed", error=str(error))
        raise
    except MisconfigurationException as error:  # Lightning's, for settings that do not go together
        message = " ".join(str(error).split())
        log.error("%s", message, extra=FILE_ONLY)
        run.ended("failed", error=message)
        raise ConfigError(message) from None
    except (Interrupted, KeyboardInterrupt):
        log.warning("interrupted; go on with: %s %s", shown("train"), pasteable(*resume_words(run.path, config)))
        run.ended("interrupted")
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            log.error("%s", traceback.format_exc())
            run.ended("failed", error=f"{type(error).__name__}: {error}")
            raise
        message = (
            "out of memory; try a smaller data.batch_size with accumulation=exact and a larger "
            "trainer.accumulate_grad_batches, a smaller data.eval_batch_size, or a smaller model"
        )
        log.error("%s (%s)", message, error, extra=FILE_ONLY)
        run.ended("failed", error=message)
        raise RunError(message) from None
    except BaseException as error:
        log.error("%s", traceback.format_exc())
        run.ended("failed", error=f"{type(error).__name__}: {error}")
        raise
    finally:
        release(run.path)
