"""A source of image files as ``data.source._target_`` names it: handed the keys of ``data`` that say how to decode."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from siamese.data.images import LabelledImages
from siamese.decoding.decode import Decoding

Source = Callable[..., LabelledImages]


def source_of_files(source: Source) -> Source:
    """``source(..., decoding=...)`` with the fields of :class:`Decoding` as arguments in the place of ``decoding``.

    They stand in its signature, by which a source is handed the keys of ``data`` that it takes.
    """
    own = [p for p in inspect.signature(source).parameters.values() if p.name != "decoding"]
    of_decoding = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, annotation=f.type) for f in fields(Decoding)
    ]

    @functools.wraps(source)
    def with_keys(**keys: Any) -> LabelledImages:
        decoding = Decoding(**{p.name: keys.pop(p.name) for p in of_decoding})
        return source(**keys, decoding=decoding)

    by_name = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + of_decoding
    with_keys.__signature__ = inspect.Signature(by_name)  # type: ignore[attr-defined]
    with_keys.__annotations__ = {p.name: p.annotation for p in by_name}
    return with_keys
