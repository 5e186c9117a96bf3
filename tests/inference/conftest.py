import numpy as np
import pytest
from tests.embedded import EXAMPLES

from lhrs.imagery.image import open_image


@pytest.fixture(scope="module")
def onnx(talker):
    from lhrs.inference.load import load

    return load(talker).runtime


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """The example scene and four smooth pictures of random colors."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 255, (4, 4, 4, 3)).astype(np.uint8).repeat(40, 1).repeat(40, 2)
    return [open_image(EXAMPLES / "river.tif").pixels, *smooth]
