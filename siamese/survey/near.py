"""Images that look alike without having the same pixels, by a perceptual hash."""

from __future__ import annotations

import numpy as np
import torch
from rich.progress import track
from scipy.fft import dctn

from siamese.data.images import Images, blocks

SIDE, LOW = 32, 8  # pixels that are looked at, and frequencies that are kept, along each axis
ROWS = 1024  # images that are compared with all others at a time


def perceptual_hashes(images: Images) -> np.ndarray:
    """A hash of 64 bits for each image, uint64 [N], of which images that look alike share most.

    Zauner 2010 (Implementation and benchmarking of perceptual image hash functions), section 3.1: grey, 32x32, a
    discrete cosine transform, and of its 8x8 lowest frequencies whether each is above their median.
    """
    found = []
    for block in blocks(images):
        grey = block.float().mean(1, keepdim=True)
        small = torch.nn.functional.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0]
        low = dctn(small.numpy(), axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(block), -1)
        low[:, 0] = np.median(low[:, 1:], axis=1)  # how bright it is says nothing of what it shows
        bits = low > np.median(low, axis=1, keepdims=True)
        found.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def near_duplicates(images: Images, bits: int) -> np.ndarray:
    """Pairs of images whose hashes differ in at most ``bits``, the nearest first: int64 [P, 3], two numbers of images
    in ascending order and the bits that differ. Images with the same pixels are among them."""
    hashes = perceptual_hashes(images)
    pairs = []
    starts = range(0, len(hashes), ROWS)
    for start in track(starts, "comparing every two images", transient=True, disable=len(starts) < 8):
        differing = np.bitwise_count(hashes[start : start + ROWS, None] ^ hashes[None, start:])
        one, other = np.nonzero(differing <= bits)
        kept = one < other
        one, other = one[kept], other[kept]
        pairs.append(np.column_stack([start + one, start + other, differing[one, other]]).astype(np.int64))
    found = np.concatenate(pairs) if pairs else np.empty((0, 3), np.int64)
    return found[np.lexsort((found[:, 1], found[:, 0], found[:, 2]))]
