"""Fields of the schema: a key with its default, its range, and what there is to say about it."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from siamese.config.ranges import Range


def key(default: Any, wanted: Range | None = None, about: str = "", *, science: bool = True) -> Any:
    """A field with its ``default``, the range that is ``wanted`` of it, and what there is to say ``about`` it."""
    metadata = {"wanted": wanted, "about": about, "science": science}
    if isinstance(default, (type, list, dict)):
        make = default if isinstance(default, type) else default.copy
        return field(default_factory=make, metadata=metadata)
    return field(default=default, metadata=metadata)


def where(default: Any, wanted: Range | None = None, about: str = "") -> Any:
    """A key that says where or how a run is executed, not what it computes."""
    return key(default, wanted, about, science=False)
