"""The pixels of a batch: from a data set that is held on the device, or gathered ahead of training."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from siamese.data.batch import Batch
from siamese.data.images import Images
from siamese.data.loader import Loader
from siamese.memory import available_memory

SHARE = 4  # of what is free on a device, one part in so many is for images
AHEAD = 2  # micro-batches


def fits(images: Images, device: torch.device, budget: float | None) -> bool:
    """Whether ``images`` may all be held on ``device``: they take at most ``budget`` GB, or without one a quarter of
    what is free there."""
    if budget is not None:
        return images.nbytes <= round(budget * 1e9)
    if device.type == "cuda":
        return images.nbytes <= torch.cuda.mem_get_info(device)[0] // SHARE
    free = available_memory()
    return free is None or images.nbytes <= free // SHARE


def held(images: Images, device: torch.device) -> Tensor:
    """All of ``images`` as one tensor on ``device``."""
    whole = images if isinstance(images, Tensor) else images[torch.arange(len(images))]
    return whole.to(device)


class Ahead:
    """The micro-batches of ``loader`` with their pixels, which a thread gathers while those before are trained on.

    Args:
        ahead: how many micro-batches it is ahead; 0 gathers each when it is wanted.
        pin: leave pixels in page-locked memory, from which a GPU takes them while it computes.
    """

    def __init__(self, loader: Loader, images: Images, *, ahead: int = AHEAD, pin: bool = False) -> None:
        self.loader, self.images, self.ahead, self.pin = loader, images, ahead, pin

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, "gather") as pool:
            try:
                for batch in self.loader:
                    waiting.append(pool.submit(self._gather, batch))
                    if len(waiting) > self.ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for late in waiting:
                    late.cancel()

    def _gather(self, batch: Batch) -> Batch:
        images = self.images[batch.images]
        return batch._replace(images=images.pin_memory() if self.pin else images)
