"""The model under test: the embedded one; where a checkout lacks its weights, one made the same way with random ones.

LHRS_TEST_MODEL names another exported folder. What only a trained model gets right asks for `trained`.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from lhrs.imagery.open import open_image
from lhrs.inference.load import EMBEDDED

EMBEDDED_FOLDER = Path(__file__).parents[2] / "src/lhrs/resources" / EMBEDDED
EXAMPLES = Path(__file__).parents[2] / "examples"


def random_nano(folder: Path) -> Path:
    pytest.importorskip("torch", reason="without the embedded weights, torch is needed to make random ones")
    import torch

    from lhrs.nano.model import build_nano, train_tokenizer
    from lhrs.nano.package import package, tokenizer_texts
    from lhrs.nano.sources import Source
    from lhrs.nano.templates import load_banks

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model, processor = build_nano(train_tokenizer(tokenizer_texts(load_banks()), 800), **sizes)
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(40)]
    noise = Source("noise", images, [n % 2 for n in range(40)], classes=["a", "b"])
    package(model, processor, [noise], folder, seed=0)
    return folder


@pytest.fixture(scope="session")
def nano(tmp_path_factory) -> Path:
    if "LHRS_TEST_MODEL" in os.environ:
        return Path(os.environ["LHRS_TEST_MODEL"])
    if (EMBEDDED_FOLDER / "language.onnx").exists():
        return EMBEDDED_FOLDER
    return random_nano(tmp_path_factory.mktemp("model") / EMBEDDED)


@pytest.fixture
def trained(nano) -> None:
    if nano != EMBEDDED_FOLDER:
        pytest.skip("needs the trained weights of the embedded model")


@pytest.fixture(scope="module")
def onnx(nano):
    from lhrs.inference.load import load

    return load(nano).runtime


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """The example scene and four smooth pictures of random colours."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 255, (4, 4, 4, 3)).astype(np.uint8).repeat(40, 1).repeat(40, 2)
    return [open_image(EXAMPLES / "river.tif").pixels, *smooth]
