"""Export the network of a run to a file that runs without this project, checked against the run before it is written.

    python scripts/export.py outputs/RUN                       RUN/encoder.onnx, for onnxruntime
    python scripts/export.py outputs/RUN --int8                RUN/encoder.int8.onnx, smaller, with its loss measured
    python scripts/export.py outputs/RUN --format torch        RUN/encoder.pt2, for torch.export.load

It takes uint8 images [N, 3, H, W], of any number, and gives embeddings [N, D]. Test images of the run, or its samples
where those are gone, are embedded by both; where they differ by more than 1e-4, nothing is written.
"""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siamese.commands.arguments import Parser
from siamese.commands.console import Console
from siamese.commands.embedding_files import check_free
from siamese.commands.messages import errors_in_one_line
from siamese.commands.trained import add_flags, encoder_of, parsed, remedy
from siamese.decoding.names import counted
from siamese.errors import ConfigError, RunError, nearest
from siamese.paths import near, with_own_modules
from siamese.runs.files import atomic

if TYPE_CHECKING:
    from torch import Tensor

    from siamese.encoder import Encoder
    from siamese.encoder.own_images import OwnImages

log = logging.getLogger("export")

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}
CHECKED = 256  # images that are embedded by both


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("export", __doc__ or "")
    add_flags(parser)
    add = parser.add_argument
    add("--format", default="onnx", metavar="NAME", help="onnx (default), or torch, which is torch.export's")
    add("--int8", action="store_true", help="with weights of 8 bits, of --format onnx; says what that costs")
    add("--out", type=Path, metavar="FILE", help="RUN/encoder.onnx or .pt2 by default, which is then written anew")
    add("--root", type=Path, metavar="PATH", help="where the run's images are now")
    asked = parsed(parser, words)
    if asked.format not in SUFFIXES:
        choices = " or ".join(SUFFIXES)
        raise ConfigError(f"--format {asked.format}: expected {choices}{nearest(asked.format, SUFFIXES)}")
    if asked.int8 and asked.format != "onnx":
        raise ConfigError(f"--int8: expected --format onnx, found {asked.format}")
    return asked


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
        asked = arguments(words)
        _export(asked)


def _export(asked: argparse.Namespace) -> None:
    if asked.out is not None:
        check_free(asked.out)
    _check_installed(asked.format)
    encoder = encoder_of(asked, "export", device="cpu", precision="32-true")
    from siamese.encoder import exported

    images, tested = _images(asked, encoder)
    log.info("exporting %s", near(encoder.run))
    model = exported.as_onnx(encoder) if asked.format == "onnx" else exported.as_torch(encoder)
    runner = exported.onnx_runner if asked.format == "onnx" else exported.torch_runner
    apart = exported.difference(encoder, runner(model), images)
    what = counted(len(images), "test image" if tested else "sample")
    log.info("differs from %s.ckpt by at most %.1e on %s", encoder.checkpoint, apart, what)
    if asked.int8:
        assert tested is not None
        small = exported.quantized(encoder, model)
        before, after = (tested.recall_at_1(encoder, runner(one)) for one in (model, small))
        log.info("recall_at_1 of %s: %s, with 8 bits %s", counted(len(tested.index), "test image"), before, after)
        model = small
    out = asked.out or encoder.run / f"encoder{'.int8' * asked.int8}{SUFFIXES[asked.format]}"
    with atomic(out) as file:
        file.write(model)
    log.info("%s: %.2f MB", near(out), len(model) / 1e6)


def _check_installed(format: str) -> None:
    for package in NEEDS[format]:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            raise ConfigError(
                f"--format {format}: {package} is not installed; pip install -e '.[export]' installs it"
            ) from None


def _images(asked: argparse.Namespace, encoder: Encoder) -> tuple[Tensor, OwnImages | None]:
    """Images of the run to embed by both, uint8 [n, 3, H, W], and its test images where they are what these are of."""
    from siamese.encoder.own_images import own_test_images, samples

    try:
        tested = own_test_images(encoder.run, encoder.config, asked.trust, asked.root, remedy(asked, "export"))
    except (ConfigError, RunError) as error:
        if asked.int8:
            raise type(error)(f"{error}; --int8 needs the test images to measure what it costs") from None
        if asked.root is not None:
            raise
        log.warning("%s; samples of the run are compared in their place", error)
        return samples(encoder.run), None
    return tested.some(CHECKED), tested
