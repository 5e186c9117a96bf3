"""The normalization of pretraining is obeyed by all that is built on its backbone."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from tests.downstream.world import write_raster

from lhrs.cmid.load_backbone import load_backbone
from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.downstream.backbone import Backbone
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.labeled_dataset import Item, LabeledDataset
from lhrs.errors import CheckpointError
from lhrs.models.timm_io import write_timm_folder
from lhrs.training import cmid
from lhrs.training.finetune_data import resolve_normalization


@pytest.fixture
def reflectance(tmp_path):
    """The same ground as integers and as floats."""
    values = np.random.default_rng(0).integers(200, 6000, (4, 40, 40))
    integers = write_raster(tmp_path / "integers.tif", values.astype(np.uint16))
    floats = write_raster(tmp_path / "floats.tif", (values / 10_000).astype(np.float32))
    return values, integers, floats


def config(**data):
    return SimpleNamespace(
        data=SimpleNamespace(**{"bands": None, "max_value": None, "mean": None, "std": None, **data})
    )


def fitted_by_both(file, scale=None):
    windows = UnlabeledWindows([file], 40)
    labeled = LabeledDataset([Item("a", ((file,),), "x")], ["x"])
    return cmid.fit_normalization(config(max_value=scale), windows), fit_normalization(labeled, None, scale)


def test_pretraining_and_tasks_normalize_alike(reflectance):
    _, integers, floats = reflectance
    for file, max_value in ((integers, 10_000), (floats, 1)):
        one, other = fitted_by_both(file)
        assert one == other and one.max_value == max_value
    assert fitted_by_both(integers, 4000)[0].max_value == 4000


def write_backbone(folder, normalization, bands=4):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=0, in_chans=bands)

    saved = normalization if isinstance(normalization, dict) else normalization.model_dump(mode="json")
    write_timm_folder(
        folder,
        model.state_dict(),
        "test_resnet",
        {"in_chans": bands},
        40,
        list(saved["mean"]),
        list(saved["std"]),
        saved,
    )
    return folder


def test_the_maximum_of_a_backbone_is_obeyed_by_tasks_and_probes(reflectance, tmp_path):
    values, integers, floats = reflectance
    pretrained = fitted_by_both(integers, 4000)[0]
    folder = write_backbone(tmp_path / "backbone", pretrained)
    encoder, probe = Backbone(str(folder), 4), load_backbone(str(folder))
    assert encoder.normalization == probe.normalization == pretrained
    fitted = fit_normalization(LabeledDataset([Item("a", ((integers,),), "x")], ["x"]), None, None)
    assert fitted.max_value == 10_000
    chosen = resolve_normalization(config(), encoder.normalization, fitted)
    assert chosen == pretrained
    source = ImageInput(chosen)
    seen = source.standardize(source.read(source.open((integers,))))
    wanted = (values / 4000 - np.array(pretrained.mean)[:, None, None]) / np.array(pretrained.std)[:, None, None]
    np.testing.assert_allclose(seen.numpy(), wanted, atol=1e-4)
    # what the run says comes first, and floats of 0-1 have no use for a maximum of integers
    own = fit_normalization(LabeledDataset([Item("a", ((integers,),), "x")], ["x"]), None, 5000)
    assert resolve_normalization(config(max_value=5000.0), encoder.normalization, own).max_value == 5000
    stated = resolve_normalization(config(mean=[0.1] * 4, std=[0.2] * 4), encoder.normalization, fitted)
    assert stated.max_value == 10_000 and stated.mean == (0.1,) * 4
    of_floats = fit_normalization(LabeledDataset([Item("a", ((floats,),), "x")], ["x"]), None, None)
    assert resolve_normalization(config(), encoder.normalization, of_floats).max_value == 1


def test_a_probe_shows_pixels_without_data_as_the_mean(reflectance, tmp_path):
    values, integers, _ = reflectance
    pretrained = fitted_by_both(integers)[0]
    probe = load_backbone(str(write_backbone(tmp_path / "backbone", pretrained)), 40)
    holed = values.astype(np.uint16)
    holed[:, :20] = 0
    shown = probe.load_image(write_raster(tmp_path / "holed.tif", holed, nodata=0))
    np.testing.assert_allclose(shown[:20], np.broadcast_to(pretrained.fill_values, (20, 40, 4)), rtol=1e-6)
    np.testing.assert_array_equal(shown[20:], holed[:, 20:].transpose(1, 2, 0))


def test_a_broken_normalization_is_one_line(tmp_path):
    folder = write_backbone(tmp_path / "backbone", {"max_value": 0, "mean": [0.5] * 4, "std": [0.5] * 4})
    for build in (lambda: Backbone(str(folder), 4), lambda: load_backbone(str(folder))):
        with pytest.raises(CheckpointError, match="has no usable normalization: max_value") as error:
            build()
        assert "\n" not in str(error.value)
