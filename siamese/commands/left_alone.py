"""What a run changes in its process, put back for a caller who goes on using it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Begin as a command does and, however it ends, put back what the process had: environment, arguments, log
    handlers, Hydra's state, random generators, torch's settings. Handlers of signals are the run's own to put back."""
    with _environment(), warnings.catch_warnings(), _logging(), _hydra(), _torch():
        yield


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    environment, argv, path, folder = dict(os.environ), sys.argv, sys.path[:], os.getcwd()
    try:
        yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        sys.argv, sys.path[:] = argv, path
        os.chdir(folder)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Hydra configures logging anew, which closes all handlers that it finds: the caller's are kept out of its way."""
    module: Any = logging
    root = logging.getLogger()
    listed, named = module._handlerList[:], dict(module._handlers)
    handlers, filters = root.handlers[:], root.filters[:]
    levels = {logger: (logger.level, logger.disabled) for logger in _loggers()}
    module._handlerList.clear()
    root.handlers[:] = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], root.filters[:] = handlers, filters
        module._handlerList[:] = listed
        module._handlers.update(named)
        for logger in _loggers():
            logger.setLevel(levels.get(logger, (logger.level,))[0])  # also forgets which levels are enabled
            logger.disabled = levels.get(logger, (0, logger.disabled))[1]


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """Let Hydra begin afresh, whatever the caller has initialized, and give that back."""
    own, config, job = GlobalHydra.instance(), HydraConfig.instance(), JobRuntime.instance()
    hydra, cfg, conf = own.hydra, config.cfg, job.conf.copy()
    own.clear()
    try:
        yield
    finally:
        own.hydra, config.cfg, job.conf = hydra, cfg, conf


@contextlib.contextmanager
def _torch() -> Iterator[None]:
    import torch

    from siamese.training.random_state import random_state, restore_random_state

    drawn, threads, dtype = random_state(), torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    anomaly, nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    flags = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.autograd.set_detect_anomaly(anomaly, nan)
        torch.set_float32_matmul_precision(precision)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        restore_random_state(drawn)
