"""What a terminal shows while a run trains."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's rich bar without its numbers: the lines above it have them."""

    def get_metrics(self, *_: Any) -> dict[str, Any]:
        return {}
