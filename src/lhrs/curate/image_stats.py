"""What is measured of each image file by itself: content, perceptual hash, sharpness, nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lhrs import fingerprint
from lhrs.errors import DataError
from lhrs.imagery.image import open_image

_MAX_SIDE = 2048
"""Larger files are compared by what they look like at this size."""
_SHARP_SIDE = 512
"""Longer side at which sharpness is measured; smaller images are not enlarged."""
_SIDE = 8
"""Of thumbnails."""
_LUMA = (0.299, 0.587, 0.114)

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("digest", pa.binary()),
        ("hash", pa.uint64()),
        ("thumbnail", pa.binary()),
        ("sharpness", pa.float64()),
        ("nodata_fraction", pa.float64()),
        ("num_pixels", pa.int64()),
        ("error", pa.string()),  # why it cannot be read; the rest is null then
    ]
)


@dataclass(frozen=True)
class ImageStats:
    """Measurements of image files, one row each."""

    rows: dict[str, int]
    """By path."""
    digests: list[bytes]
    """SHA-256 of the decoded pixels and the size; empty where unreadable."""
    hashes: np.ndarray
    """uint64 `(N,)`, perceptual."""
    thumbnails: np.ndarray
    """uint8 `(N, 8, 8, 3)`."""
    sharpness: np.ndarray
    """float64 `(N,)`, NaN where unreadable; so the next."""
    nodata_fraction: np.ndarray
    num_pixels: np.ndarray
    errors: list[str | None]

    def rows_of(self, images: Iterable[str]) -> list[int]:
        """Return the rows of paths."""
        return [self.rows[image] for image in images]


def compute_image_stats(images: Sequence[str]) -> pa.Table:
    """Return the rows of a block of paths: the pure function that every worker runs."""
    return pa.Table.from_pylist([_measure(image) for image in images], SCHEMA)


def collect_image_stats(table: pa.Table) -> ImageStats:
    """Return rows of `measure`, put together."""
    thumbnails = table["thumbnail"].to_pylist()
    numbers = {
        name: table[name].to_numpy(zero_copy_only=False) for name in ("sharpness", "nodata_fraction", "num_pixels")
    }
    return ImageStats(
        {image: n for n, image in enumerate(table["image"].to_pylist())},
        [digest or b"" for digest in table["digest"].to_pylist()],
        np.array([value or 0 for value in table["hash"].to_pylist()], np.uint64),
        np.frombuffer(b"".join(value or bytes(_SIDE**2 * 3) for value in thumbnails), np.uint8).reshape(
            -1, _SIDE, _SIDE, 3
        ),
        **{name: values.astype(float) for name, values in numbers.items()},
        errors=table["error"].to_pylist(),
    )


def _measure(image: str) -> dict[str, object]:
    try:
        opened = open_image(image, _MAX_SIDE)
    except DataError as error:
        return {"image": image, "error": str(error)}
    pixels, size = opened.pixels, (opened.width, opened.height)
    black = float((pixels == 0).all(2).mean())
    return {
        "image": image,
        "digest": bytes.fromhex(fingerprint.sha256_of_bytes(repr(size).encode() + pixels.tobytes())),
        "hash": perceptual_hash(pixels),
        "thumbnail": thumbnail(pixels).tobytes(),
        "sharpness": sharpness(pixels),
        # A picture has no place to say where it has no data: there, such pixels are black.
        "nodata_fraction": round(1 - opened.valid_fraction if opened.valid_fraction < 1 else black, 4),
        "num_pixels": opened.width * opened.height,
    }


def perceptual_hash(pixels: np.ndarray) -> int:
    """Return 64 bits of the lowest frequencies: re-encoding, resizing and brightening change few of them.

    Args:
        pixels: uint8 `(H, W, 3)`.
    """
    import imagehash
    from PIL import Image

    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 `(8, 8, 3)`: the mean colors of a grid's cells."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def sharpness(pixels: np.ndarray) -> float:
    """Return the variance of luma's Laplacian, in squared steps of 0-255; 0 for one color, small where blurred.

    Args:
        pixels: uint8 `(H, W, 3)`; reduced to 512 pixels on the longer side if larger.
    """
    from PIL import Image

    scale = _SHARP_SIDE / max(pixels.shape[:2])
    if scale < 1:
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    luma = np.pad(pixels @ np.array(_LUMA), 1, mode="edge")
    centre = luma[1:-1, 1:-1]
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * centre
    return round(float(edges.var()), 4)
