"""What the page of search asks for, and what it is answered.

It is meant for one person on one machine, and what reaches it is not trusted all the same: another page in the browser
may send requests here, and an image that is dropped may come from anywhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import jinja2
import torch
from anyio import CapacityLimiter
from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siamese.compare.theme import page_css
from siamese.decoding.decode import DamagedError, decode
from siamese.decoding.formats import formats
from siamese.decoding.names import counted, visible
from siamese.encoder import Encoder
from siamese.errors import ConfigError, RunError
from siamese.index import Found, Index

TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 20_000_000  # bytes of an image that is sent
PIXELS = 50_000_000  # of such an image
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "AVIF", "HEIF")
AT_ONCE = 2  # images that are decoded and embedded at a time; others wait
MOST = 100  # neighbours
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """A request that is not answered: the status and why, in one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def application(
    index: Index,
    encoder: Encoder,
    *,
    k: int = 10,
    where: Mapping[str, str] | None = None,
    threshold: tuple[str, float] | None = None,
) -> Starlette:
    """The page and what it asks for.

    Args:
        k: how many neighbours the page asks for at first.
        where: what all that is found must have; see :meth:`siamese.index.Index.find`.
        threshold: the name and the distance of the one that the page begins with.
    """
    return _Answers(index, encoder, k, dict(where or {}), threshold).application()


class _Answers:
    def __init__(
        self, index: Index, encoder: Encoder, k: int, where: dict[str, str], threshold: tuple[str, float] | None
    ) -> None:
        self.index, self.encoder, self.k, self.where = index, encoder, k, where
        self.thresholds, self.threshold = index.manifest.thresholds, threshold
        there = index.check(1, where).nonzero()[0].tolist()
        labels = index.stored.columns["labels"]
        self.labels, self.there = sorted({labels[i] for i in there} - {""}), set(there)
        self.limiter = CapacityLimiter(AT_ONCE)

    def application(self) -> Starlette:
        routes = [
            Route("/", self.page),
            Route("/search.css", self.style),
            Route("/search.js", self.script),
            Route("/thumbnail/{position:int}", self.thumbnail),
            Route("/search", self.sent, methods=["POST"]),
            Route("/search/{position:int}", self.stored),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        refused: Any = {RefusedError: _refused, ConfigError: _refused, RunError: _refused}
        return Starlette(routes=routes, middleware=[Middleware(_Headers), hosts], exception_handlers=refused)

    async def page(self, request: Request) -> Response:
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
        )
        shown = {
            "name": self.index.name,
            "count": counted(len(self.there), "image"),
            "about": repr(self.encoder).strip("<>"),
            "labels": self.labels,
            "thresholds": self.thresholds,
            "chosen": self.threshold[0] if self.threshold else "",
            "k": self.k,
            "ks": sorted({self.k, *(k for k in (5, 10, 20, 50, MOST) if k <= len(self.there))}),
        }
        return HTMLResponse(environment.get_template("search.html.j2").render(**shown))

    async def style(self, request: Request) -> Response:
        return Response(page_css() + (TEMPLATES / "search.css").read_text(encoding="utf-8"), media_type="text/css")

    async def script(self, request: Request) -> Response:
        script = (TEMPLATES / "search.js").read_text(encoding="utf-8")
        return Response(script, media_type="text/javascript")

    async def thumbnail(self, request: Request) -> Response:
        position = self._position(request)
        return Response(self.index.stored.thumbnail(position), media_type="image/jpeg")

    async def stored(self, request: Request) -> Response:
        """The neighbours of an image of the index."""
        position = self._position(request)
        return await self._neighbours(request, lambda: self.index.vector(position), position)

    async def sent(self, request: Request) -> Response:
        """The neighbours of an image that is sent, as the body of the request."""
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers['host']}":
            raise RefusedError(403, f"a page of {origin} may not search here")
        content = await _body(request)
        return await self._neighbours(request, lambda: self._embedded(content), None)

    def _position(self, request: Request) -> int:
        position: int = request.path_params["position"]
        if position not in self.there:
            raise RefusedError(404, f"there is no image {position}")
        return position

    def _embedded(self, content: bytes) -> Any:
        check(content)
        try:
            pixels = decode(io.BytesIO(content), self.encoder.decoding).pixels  # as those of a file
        except DamagedError as error:
            raise RefusedError(415, f"this image cannot be read: {error}") from None
        return self.encoder.embed_pixels(torch.tensor(pixels)[None], flip=self.index.manifest.flip)[0].numpy()

    async def _neighbours(self, request: Request, vector: Any, position: int | None) -> Response:
        asked = request.query_params
        k, where = _number(asked.get("k", str(self.k)), MOST), dict(self.where)
        if label := asked.get("label"):
            if label not in self.labels:
                raise RefusedError(400, "there is no image with this label")
            where["label"] = _literal(label)
        within = None
        if name := asked.get("threshold"):
            if name not in self.thresholds:
                raise RefusedError(400, f"expected one of the thresholds {', '.join(self.thresholds)}")
            within = self.thresholds[name]

        def find() -> list[Found]:
            count = int(self.index.check(1, where).sum())
            return self.index.find(vector(), min(k, count), where=where, within=within)

        found = await anyio.to_thread.run_sync(find, limiter=self.limiter)
        told: dict[str, Any] = {"threshold": within, "query": position, "neighbours": [_told(one) for one in found]}
        if position is not None:
            told["path"] = _text(Path(self.index.stored.columns["paths"][position]))
        return JSONResponse(told)


class _Headers:
    """What every answer says to the browser."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def check(content: bytes) -> None:
    """Look at the head of the image in ``content``, before a pixel of it is decoded.

    Raises:
        RefusedError: for what is no image, or one of too many pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=[name for name in FORMATS if name in formats()]) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise RefusedError(413, f"the image has more than {PIXELS // 1_000_000} million pixels") from None
    except Exception:  # a damaged file raises whatever its decoder meets first
        raise RefusedError(415, "this is no image that can be read") from None
    if width * height > PIXELS:
        size = f"{width:,} × {height:,}"
        raise RefusedError(413, f"the image has {size} pixels; expected at most {PIXELS // 1_000_000} million")


async def _body(request: Request) -> bytes:
    """What is sent, as far as it is allowed to be large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise RefusedError(413, f"the file is larger than {LARGEST // 1_000_000} MB")
        parts.append(part)
    if not size:
        raise RefusedError(400, "the file is empty")
    return b"".join(parts)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, error.status if isinstance(error, RefusedError) else 400)


def _number(text: str, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= most:
        raise RefusedError(400, f"k: expected 1 to {most}")
    return int(text)


def _literal(label: str) -> str:
    """A pattern that fits ``label`` alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in label)


def _told(one: Found) -> dict[str, Any]:
    return {
        "position": one.position,
        "path": _text(one.path),
        "label": one.label,
        "distance": one.distance,
        "similarity": one.similarity,
        "copies": [_text(copy) for copy in one.copies],
    }


def _text(path: Path) -> str:
    return visible([str(path)])[0]
