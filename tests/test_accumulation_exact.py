"""Exact accumulation takes the step of one large batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accumulating import assert_close, at_once, exactly, losses, weights


@pytest.mark.parametrize("loss", losses())
@pytest.mark.parametrize("window", [1, 3])
def test_every_loss_descends_as_one_large_batch(loss: str, window: int, tmp_path: Path) -> None:
    """All gradients of network and loss at every step, the value of the loss, and the weights after 5 steps;
    a step of each epoch is a short last window. A loss that is added to conf/loss is tested here too."""
    words = (f"loss={loss}", "loss.koleo_weight=0.1")
    module, kept = exactly(*words, batch_size=4, window=window, where=tmp_path)
    whole, expected = at_once(*words, batch_size=4, window=window, where=tmp_path)
    assert len(kept.gradients) == len(expected.gradients) == 5
    for gradients, other in zip(kept.gradients, expected.gradients, strict=True):
        assert_close(gradients, other, 1e-10)
    assert kept.losses == pytest.approx(expected.losses, rel=1e-12)
    assert_close(weights(module), weights(whole), 1e-10)
