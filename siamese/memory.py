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


def check_images_fit(count: int, size: tuple[int, int]) -> None:
    """Refuse ``count`` images, uint8 [3, height, width] of that ``size``, that this machine cannot hold.

    Raises:
        ConfigError: see :func:`check_fits`.
    """
    height, width = size
    shown = f"{height}" if height == width else f"[{height},{width}]"
    check_fits(f"data.image_size={shown}", count * 3 * height * width, f"{count:,} images")


def total_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not say."""
    return _told("MemTotal")


def available_memory() -> int | None:
    """Bytes of memory that can be had without taking any from a process; None where the system does not say."""
    return _told("MemAvailable")


def _told(name: str) -> int | None:
    if not MEMINFO.is_file():
        return None
    for line in MEMINFO.read_text().splitlines():  # MemTotal:  24000000 kB
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the machine, or its GPU, had too little memory."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
