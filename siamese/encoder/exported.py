"""A trained network as a file that needs none of this project, and how far it is from the checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import siamese
from siamese.encoder.encoder import Encoder
from siamese.errors import RunError
from siamese.models import EmbeddingNet, mirrored
from siamese.runs.bounds import one_line

LARGEST = 1e-4  # difference of an entry of an embedding from the checkpoint's
INPUT, OUTPUT = "images", "embeddings"

Embed = Callable[[np.ndarray], np.ndarray]  # uint8 [N, 3, H, W] → float32 [N, D]


def facts(encoder: Encoder) -> dict[str, str]:
    """What a file says of itself: text, and JSON of what is more than one."""
    data = encoder.config.data
    said: dict[str, Any] = {
        "run_id": encoder.manifest["run_id"],
        "name": encoder.config.name,
        "checkpoint": encoder.checkpoint,
        "epoch": encoder.epoch,
        "siamese": siamese.__version__,
        "classes": encoder.manifest.get("data", {}).get("classes", []),
        "image_size": list(data.size),
        "fit": data.fit,
        "background": data.background,
    }
    with contextlib.suppress(RunError):  # of another checkpoint, or an earlier version: then it has none
        said["threshold"] = encoder.threshold().distance
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}


def as_onnx(encoder: Encoder) -> bytes:
    """The network as ONNX: uint8 ``images`` [N, 3, H, W] in, float32 ``embeddings`` [N, D] out, N free.

    Raises:
        RunError: for a network that torch cannot export.
    """
    onnx = importlib.import_module("onnx")
    with _quietly(encoder):
        program = torch.onnx.export(
            _network(encoder),
            (_example(encoder),),
            dynamo=True,
            dynamic_shapes=({0: "N"},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
        onnx.helper.set_model_props(model, facts(encoder))
        return bytes(model.SerializeToString())


def as_torch(encoder: Encoder) -> bytes:
    """The network as torch.export has it; what :func:`facts` says is its extra file ``siamese.json``.

    Raises:
        RunError: for a network that torch cannot export.
    """
    with _quietly(encoder):
        free = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(_network(encoder), (_example(encoder),), dynamic_shapes=free)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"siamese.json": json.dumps(facts(encoder))})
        return file.getvalue()


def quantized(encoder: Encoder, model: bytes) -> bytes:
    """An ONNX ``model`` of ``encoder`` with weights of 8 bits; what its layers hand on is brought to 8 bits as it runs,
    from the range that it has in the whole batch.

    Raises:
        RunError: for a network that onnxruntime cannot quantise.
    """
    onnx, quantization = importlib.import_module("onnx"), importlib.import_module("onnxruntime.quantization")
    with _quietly(encoder), tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder, "whole.onnx"), Path(folder, "small.onnx")
        whole.write_bytes(model)
        quantization.quantize_dynamic(whole, small, weight_type=quantization.QuantType.QUInt8)
        found = onnx.load(small)
        onnx.helper.set_model_props(found, facts(encoder))
        return bytes(found.SerializeToString())


def onnx_runner(model: bytes) -> Embed:
    """What runs an ONNX ``model`` on the CPU."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run([OUTPUT], {INPUT: images})[0])


def torch_runner(model: bytes) -> Embed:
    """What runs what :func:`as_torch` made."""
    module = torch.export.load(io.BytesIO(model)).module()

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(module(torch.from_numpy(images)))

    return embed


def difference(encoder: Encoder, embed: Embed, pixels: Tensor) -> float:
    """By how much ``embed`` differs at most from ``encoder`` in an entry of an embedding of ``pixels``, one alone and
    the others at once.

    Raises:
        RunError: for more than :data:`LARGEST`.
    """
    some = [pixels[:1], *pixels[1:].split(encoder.network.batch_size)]
    vectors = np.concatenate([embed(images.numpy()) for images in some if len(images)])
    found = float(np.abs(vectors - encoder.embed_pixels(pixels).numpy()).max())
    if not found <= LARGEST:
        raise RunError(
            f"{encoder.run}: what was exported differs from {encoder.checkpoint}.ckpt by {found:.2g}; expected at most "
            f"{LARGEST:g}; nothing is written"
        )
    return found


class _Mirrored(nn.Module):
    """A network whose embeddings are averaged over each image and its mirror image."""

    def __init__(self, net: EmbeddingNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        return mirrored.embed(self.net, images, flip=True)


def _network(encoder: Encoder) -> nn.Module:
    """What ``encoder`` embeds with, as the run was measured."""
    net = encoder.network.net
    return _Mirrored(net).eval() if encoder.config.evaluation.flip else net


def _example(encoder: Encoder) -> Tensor:
    return torch.zeros(2, 3, *encoder.config.data.size, dtype=torch.uint8)


@contextlib.contextmanager
def _quietly(encoder: Encoder) -> Iterator[None]:
    """Without what torch says to those who write exporters; an error of it is one of ours."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:  # whatever torch meets in a network
        target = encoder.config.model["_target_"]
        raise RunError(f"{encoder.run}: {target} cannot be exported ({one_line(error)})") from None
    finally:
        logging.disable(before)
