"""Every loss of conf/loss trains: a few steps on the digits, through the program's own batches, beat the untrained network."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
