"""Statistics of single image files: pixel digest, perceptual hash, sharpness, nodata fraction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lhrs import fingerprint
from lhrs.errors import DataError
from lhrs.imagery.image import open_image

_MAX_SIDE = 2048
"""Longer side in pixels to which larger images are reduced before they are compared."""
_SHARP_SIDE = 512
"""Longer side at which sharpness is measured; smaller images are not enlarged."""
_SIDE = 8
"""Side of thumbnails in pixels."""
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
        ("error", pa.string()),  # why the image cannot be read; the other columns are null then
    ]
)


@dataclass(frozen=True)
class ImageStats:
    """Statistics of image files, one row per file."""

    rows: dict[str, int]
    """Row indices by path."""
    digests: list[bytes]
    """SHA-256 of the decoded pixels and the size; empty if the image is unreadable."""
    hashes: np.ndarray
    """Perceptual hashes, uint64 `(N,)`."""
    thumbnails: np.ndarray
    """uint8 `(N, 8, 8, 3)`."""
    sharpness: np.ndarray
    """float64 `(N,)`, NaN if the image is unreadable; also the next columns."""
    nodata_fraction: np.ndarray
    num_pixels: np.ndarray
    errors: list[str | None]

    def rows_of(self, images: Iterable[str]) -> list[int]:
        """Return the row indices of paths."""
        return [self.rows[image] for image in images]


def compute_image_stats(images: Sequence[str]) -> pa.Table:
    """Return the statistics of a block of paths: the pure function that every worker runs."""
    return pa.Table.from_pylist([_measure(image) for image in images], SCHEMA)


def collect_image_stats(table: pa.Table) -> ImageStats:
    """Return the rows of `compute_image_stats` as `ImageStats`."""
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
        # If no pixel is masked, black pixels count as nodata.
        "nodata_fraction": round(1 - opened.valid_fraction if opened.valid_fraction < 1 else black, 4),
        "num_pixels": opened.width * opened.height,
    }


def perceptual_hash(pixels: np.ndarray) -> int:
    """Return a 64-bit hash of the lowest frequencies. Re-encoding, resizing and brightening change few bits.

    Args:
        pixels: uint8 `(H, W, 3)`.
    """
    import imagehash
    from PIL import Image

    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 `(8, 8, 3)`: the mean colors of an 8 x 8 grid."""
    from PIL import Image

    return np.array(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX))


def sharpness(pixels: np.ndarray) -> float:
    """Return the variance of luma's Laplacian, on a 0-255 scale; 0 for a uniform image, small for a blurred image.

    Args:
        pixels: uint8 `(H, W, 3)`; reduced to 512 pixels on the longer side if larger.
    """
    from PIL import Image

    scale = _SHARP_SIDE / max(pixels.shape[:2])
    if scale < 1:
        size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
        pixels = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    luma = np.pad(pixels @ np.array(_LUMA), 1, mode="edge")
    center = luma[1:-1, 1:-1]
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * center
    return round(float(edges.var()), 4)
