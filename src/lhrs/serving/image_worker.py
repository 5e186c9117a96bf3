"""Decode images of untrusted clients, in processes with limits on memory and time.

`lhrs.serving.worker_pool` calls these functions. Only formats that cannot refer to other files or URLs are allowed, and
sidecar files are not read.
"""

import base64
import io
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.geo_image import GeoBounds, GeoImage
from lhrs.imagery.image import open_image
from lhrs.inference.images import RenderingOptions

_KINDS = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "GTiff"),
    **dict.fromkeys((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JP2OpenJPEG"),
    b"\x89PNG": "PNG",
    **dict.fromkeys((b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF"), "JPEG"),
}
"""First bytes of the accepted formats, and the only allowed GDAL driver of each."""
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\f\v"
MAX_SIDE = 1024
GDAL_LIMITS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecar files
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_CACHEMAX": "256",
    "GDAL_HTTP_TIMEOUT": "1",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",  # no URL is ever opened
    "PROJ_NETWORK": "OFF",
}


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image and its metadata."""

    image: GeoImage
    ring: list[tuple[float, float]] | None
    """Longitude and latitude of the corners, clockwise from the top left; None if not georeferenced."""


def set_limits(memory_bytes: int, max_pixels: int, decode_s: float) -> None:
    """Set the limits of this process; called once at its start."""
    global _decode_s
    _decode_s = decode_s
    os.environ.update(GDAL_LIMITS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the server, which stops its workers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = max_pixels // 2  # Pillow warns at this size, and raises at twice the size
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


_decode_s = 20.0


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def preload() -> None:
    """Import the modules that decoding needs."""
    import PIL.Image
    import rasterio

    PIL.Image.init()
    with rasterio.Env():
        pass


def decode_image(
    source: Path | bytes | str,
    area: GeoBounds | None = None,
    rendering: RenderingOptions = RenderingOptions(),  # noqa: B008 (frozen)
    max_side: int = MAX_SIDE,
) -> DecodedImage:
    """Open an image.

    Args:
        source: a file, its content, or a `data:` URL.
        area: the part to read.
        rendering: of a raster.
        max_side: see `open_image`.

    Raises:
        DataError: it cannot be opened; the message contains no path.
    """
    if isinstance(source, Path):
        return _decode(source, area, rendering, max_side)
    data = _from_url(source) if isinstance(source, str) else source
    with tempfile.TemporaryDirectory(prefix="lhrs-") as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        return _decode(path, area, rendering, max_side)


def preview(path: Path, max_side: int, rendering: RenderingOptions) -> bytes:
    """Return a PNG of an image file with at most `max_side` pixels on the longer side.

    Raises:
        DataError: see `decode_image`.
    """
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(decode_image(path, None, rendering, max_side).image.pixels).save(data, "PNG")
    return data.getvalue()


def _decode(path: Path, area: GeoBounds | None, rendering: RenderingOptions, max_side: int) -> DecodedImage:
    alarm = hasattr(signal, "setitimer")
    if alarm:
        # The alarm has no handler, so it kills the process even inside a loop of a library.
        signal.setitimer(signal.ITIMER_REAL, _decode_s)
    try:
        image = open_image(path, max_side, area, driver_of(path), **rendering.arguments)
        width, height = image.width, image.height
        ring = image.to_lonlat(np.array([[0, 0], [width, 0], [width, height], [0, height]]))
    except (DataError, ConfigError) as error:  # ConfigError: an unknown sensor
        raise DataError(str(error).replace(f"'{path}'", "IMAGE").replace(str(path), "the image")) from None
    except MemoryError:
        raise DataError("the image takes too much memory to decode.") from None
    except Exception as error:  # libraries raise arbitrary exceptions for malicious files
        raise DataError(f"the image is damaged or of an unknown kind ({type(error).__name__}).") from None
    finally:
        if alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
    known = ring is not None and bool(np.isfinite(ring).all())
    return DecodedImage(image, [(x, y) for x, y in ring.tolist()] if known and ring is not None else None)


def driver_of(path: Path) -> str:
    """Return the only allowed GDAL driver of a file, from its first bytes.

    Raises:
        DataError: it cannot be read, or its format is not accepted.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if head[4:] == b"ftypavif":
        return "JPEG"
    for begin, driver in _KINDS.items():
        if head.startswith(begin):
            return driver
    raise DataError(f"{path} is not a PNG, JPEG, WebP, GIF, BMP, AVIF, (Geo)TIFF or JPEG 2000 image.")


def _from_url(url: str) -> bytes:
    """Return the content of a base64 `data:` URL.

    Line breaks, the URL-safe alphabet, missing padding and percent-encoding are accepted.
    """
    head, comma, text = url.partition(",")
    if not comma:
        raise DataError("the data: URL has no comma before its data.")
    try:
        data = text.encode("ascii")
        if b"%" in data:
            data = unquote_to_bytes(data)
        if "base64" not in (part.strip().lower() for part in head.split(";")[1:]):
            return data
        data = data.translate(_STANDARD_BASE64, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        raise DataError("the image's base64 is damaged.") from None
