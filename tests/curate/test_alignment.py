"""Models that embed images and texts, tiny and random."""

import numpy as np
import pytest
import torch
from tests.curate.models import write_model
from tests.curate.scenes import scene

from lhrs.curate.alignment import EmbeddingModel
from lhrs.errors import ConfigError, DataError


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: write_model(folder / kind, kind) for kind in ("clip", "siglip", "dinov2")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for n in range(5):
        scene(n, 40 + 8 * n).save(folder / f"{n}.png")
    return [str(folder / f"{n}.png") for n in range(5)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_batch_gives_what_its_members_give_alone(models, pictures, kind):
    model = EmbeddingModel(models[kind], needs_text=True)
    texts = ["a field", "", "a river between two rows of very many houses and a road"]
    for together, alone in (
        (model.images(pictures), [model.images([p]) for p in pictures]),
        (model.texts(texts), [model.texts([t]) for t in texts]),
    ):
        np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        assert np.abs(together[0] - together[2]).max() > 1e-3


def test_vectors_are_those_of_the_model(models, pictures):
    """Held against the logits that the model itself computes."""
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    encoder, model = EmbeddingModel(models["clip"], needs_text=True), AutoModel.from_pretrained(models["clip"])
    texts = ["a b c", "d e f"]
    shown = [Image.open(path) for path in pictures]
    inputs = AutoProcessor.from_pretrained(models["clip"])(
        text=texts, images=shown, return_tensors="pt", padding="max_length", max_length=24
    )
    with torch.inference_mode():
        wanted = model(**inputs).logits_per_image / model.logit_scale.exp()
    np.testing.assert_allclose(encoder.images(pictures) @ encoder.texts(texts).T, wanted.numpy(), atol=1e-5)


def test_models_without_texts_embed_images_only(models, pictures):
    assert EmbeddingModel(models["dinov2"]).images(pictures).shape == (5, 16)
    with pytest.raises(ConfigError, match="reads no texts"):
        EmbeddingModel(models["dinov2"], needs_text=True)


def test_timm_folders_embed_images(tmp_path, pictures):
    timm = pytest.importorskip("timm")
    from lhrs.models.timm_io import write_timm_folder

    arguments = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
    made = timm.create_model("resnet18", pretrained=False, num_classes=0, **arguments)
    write_timm_folder(tmp_path / "timm", made.state_dict(), "resnet18", arguments, 32, [0.5] * 3, [0.5] * 3)
    vectors = EmbeddingModel(str(tmp_path / "timm")).images(pictures)
    assert vectors.shape == (5, 32) and np.isfinite(vectors).all()


def test_wrong_models_are_one_line(tmp_path, models):
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        EmbeddingModel(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="does not exist"):
        EmbeddingModel(models["clip"]).images([str(tmp_path / "none.png")])
