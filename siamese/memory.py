"""Memory that is needed against what this machine has, before any of it is taken."""

from __future__ import annotations

from pathlib import Path

from siamese.errors import ConfigError

MEMINFO = Path("/proc/meminfo")


def check_fits(key: str, needed: int, what: str) -> None:
    """Refuse what needs more bytes than this machine has, whatever else it holds.

    Raises:
        ConfigError: naming ``key`` (with its value) and both sizes.
    """
    there = total_memory()
    if there is not None and needed > there:
        raise ConfigError(f"{key}: {what} would take {_gigabytes(needed)}; this machine has {_gigabytes(there)}")


def check_images_fit(count: int, image_size: int) -> None:
    """Refuse ``count`` images, uint8 [3, image_size, image_size], that this machine cannot hold.

    Raises:
        ConfigError: see :func:`check_fits`.
    """
    check_fits(f"data.image_size={image_size}", count * 3 * image_size**2, f"{count:,} images")


def total_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not say."""
    if not MEMINFO.is_file():
        return None
    first = MEMINFO.read_text().split("\n", 1)[0]  # MemTotal:  24000000 kB
    return int(first.split()[1]) * 1024


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"
