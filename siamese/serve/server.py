"""The server of the page: on this machine, for this machine."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from siamese.errors import ConfigError

if TYPE_CHECKING:
    from siamese.encoder import Encoder
    from siamese.index import Index

HOST, TRIES = "127.0.0.1", 20

log = logging.getLogger("search")


def check_installed() -> None:
    """Refuse to serve without what serves.

    Raises:
        ConfigError: when it is not installed.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--serve: {' and '.join(missing)} not installed; pip install 'siamese[serve]'")


def listening(port: int | None, default: int) -> socket.socket:
    """A socket that listens on ``port``, or on the first free one from ``default`` on.

    Raises:
        ConfigError: for a port in use, or none.
    """
    if port is not None and not 0 <= port < 2**16:
        raise ConfigError(f"--port {port}: expected 1 to 65535, or 0 for any that is free")
    for number in [port] if port is not None else [*range(default, default + TRIES), 0]:
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, number))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            if port is not None:
                raise ConfigError(f"--port {port}: {error.strerror}; choose another, or none") from None
    raise ConfigError(f"no port of {HOST} is free")


def serve(
    index: Index,
    encoder: Encoder,
    listener: socket.socket,
    *,
    k: int,
    where: Mapping[str, str],
    threshold: tuple[str, float] | None,
) -> None:
    """Serve the page of ``index`` on ``listener`` until it is interrupted; see :func:`.application.application`."""
    import uvicorn

    from siamese.serve.application import application

    app = application(index, encoder, k=k, where=where, threshold=threshold)
    log.info("http://%s:%s/ shows the page; Ctrl-C ends it", *listener.getsockname()[:2])
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=3)
    uvicorn.Server(config).run(sockets=[listener])
