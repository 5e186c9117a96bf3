"""The model under test: the embedded one, or one made the same way with random weights."""

from pathlib import Path

import pytest

from lhrs.inference.load import EMBEDDED

ROOT = Path(__file__).parents[1]
EMBEDDED_FOLDER = ROOT / "src/lhrs/resources" / EMBEDDED
EXAMPLES = ROOT / "examples"


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
