"""Images of every mode that Pillow has, as 8-bit RGB."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from PIL import Image

DEPTH = 2**16 - 1  # the largest value of 16 bits
TWELVE_BITS = 2**12
OWN_RANGE = "values of no fixed range (12 bits, or floating point), scaled each from its own lowest to its highest"
NO_PROFILE = "CMYK colours and no profile that can be used for them, converted without one"


def colours(image: Image.Image, background: tuple[int, ...]) -> tuple[Image.Image, str | None]:
    """``image`` (loaded) in RGB, what is transparent composed on ``background``; and what was odd, as a note.

    Raises:
        ValueError: for floating-point values none of which is finite.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled(np.asarray(image))
    if image.mode == "CMYK":
        managed = _through_profile(image)
        return (image.convert("RGB"), NO_PROFILE) if managed is None else (managed, None)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        if image.mode == "La":  # which converts to nothing else
            image = image.convert("LA")
        solid = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(solid, image.convert("RGBA")).convert("RGB"), None
    return (image if image.mode == "RGB" else image.convert("RGB")), None


def _scaled(values: np.ndarray) -> tuple[Image.Image, str | None]:
    """Grey ``values`` [H, W] of 16 or 32 bits, integers or not, in 8 bits."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        raise ValueError("no value is finite")
    low, high, note = float(finite.min()), float(finite.max()), None
    if values.dtype.kind != "f" and low >= 0 and TWELVE_BITS <= high <= DEPTH:
        low, high = 0.0, float(DEPTH)
    else:
        note = OWN_RANGE
    shares = (np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1)
    grey = Image.fromarray((shares * 255).round().astype(np.uint8))
    return grey.convert("RGB"), note


def _through_profile(image: Image.Image) -> Image.Image | None:
    """A CMYK image in sRGB by the profile that its file holds; None without one that can be used."""
    profile = image.info.get("icc_profile")
    with contextlib.suppress(Exception):  # Pillow without LittleCMS, and all that a broken profile leads to
        from PIL import ImageCms

        if profile:
            return ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
    return None
