import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    """Writes `(B, H, W)` values to a GeoTIFF; what is not a creation option is set on the dataset after opening."""

    def write(values: np.ndarray, name: str = "image.tif", mask: np.ndarray | None = None, **profile: object) -> Path:
        values = np.asarray(values)
        path = tmp_path / name
        after = {key: profile.pop(key) for key in ("colorinterp", "descriptions", "gcps") if key in profile}
        profile = {"driver": "GTiff", "dtype": values.dtype, **profile}
        shape = dict(zip(("count", "height", "width"), values.shape, strict=True))
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", **shape, **profile) as dataset:
                for key, value in after.items():
                    setattr(dataset, key, value)
                dataset.write(values)
                if mask is not None:
                    dataset.write_mask(mask)
        return path

    return write
