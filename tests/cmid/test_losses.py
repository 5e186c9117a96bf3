"""The losses reproduce what the original computed, and are what their formulas say."""

import pytest
import torch
from safetensors.torch import load_file

from lhrs.cmid.branches import InstanceContrast, MaskedReconstruction, PrototypeMatching
from lhrs.cmid.losses import blend_visible, focal_frequency, focal_l1, info_nce, prototype_cross_entropy


@pytest.fixture(scope="module")
def recorded(golden):
    return load_file(golden / "cmid/cmid_losses.safetensors")


def test_reconstruction_losses_are_those_of_the_original(recorded):
    prediction, target, mask = (recorded[f"rec_{name}"] for name in ("pred", "target", "mask"))
    assert focal_l1(prediction, target, mask) == pytest.approx(recorded["rec_focal_l1_masked"].item(), abs=1e-5)
    shared = focal_frequency(prediction, target, shared_maximum=True)
    assert shared == pytest.approx(recorded["ffl_log_ave0"].item(), abs=1e-5)
    mean = focal_frequency(prediction, target, mean_spectrum=True)
    assert mean == pytest.approx(recorded["ffl_log_ave1"].item(), abs=1e-5)
    assert focal_frequency(prediction, target) > shared  # an image with small errors is not scaled by another's large


def test_info_nce_is_that_of_the_original(recorded):
    loss = info_nce(recorded["nce_query"], recorded["nce_key"], recorded["nce_queue"].T, 0.2)
    assert loss == pytest.approx(recorded["nce_loss_t02"].item(), abs=1e-5)


def test_prototype_loss_and_its_centre_are_those_of_the_original(recorded):
    branch = PrototypeMatching(8, prototypes=24)
    for step in range(3):
        student, teacher = (recorded[f"local_{w}"][step].transpose(1, 2).flatten(0, 1) for w in ("student", "teacher"))
        loss = prototype_cross_entropy(student, teacher, branch.center, 0.04).mean()
        assert loss == pytest.approx(recorded["local_loss"][step].item(), abs=1e-5)
        branch._update_center(teacher.sum(0), torch.tensor(float(len(teacher))))
        torch.testing.assert_close(branch.center, recorded["local_center"][step].flatten(), atol=1e-5, rtol=0)


def test_each_images_frequency_loss_does_not_depend_on_its_company():
    torch.manual_seed(0)
    one, two = torch.randn(2, 4, 3, 17, 16)
    alone = torch.stack([focal_frequency(one[n : n + 1], two[n : n + 1]) for n in range(4)])
    assert focal_frequency(one, two) == pytest.approx(alone.mean().item(), rel=1e-5)
    spectrum = torch.fft.fft2(one[:1] - two[:1], norm="ortho").abs()  # the definition, over the whole spectrum
    weight = torch.log1p(spectrum) / torch.log1p(spectrum).max()
    assert alone[0] == pytest.approx((weight * spectrum**2).mean().item(), rel=1e-5)


def test_what_was_not_hidden_hardly_teaches():
    prediction = torch.randn(2, 3, 8, 8, requires_grad=True)
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :4] = 1
    blend_visible(prediction, torch.randn(2, 3, 8, 8), mask).sum().backward()
    assert (prediction.grad[:, :, :4] == 1).all()
    torch.testing.assert_close(prediction.grad[:, :, 4:], torch.full((2, 3, 4, 8), 0.001))


def test_the_queue_holds_unit_keys_each_once_and_newest_last():
    torch.manual_seed(0)
    branch = InstanceContrast(8, queue_size=12, hidden=8, out=4).train()
    torch.testing.assert_close(branch.queue.norm(dim=1), torch.ones(12))
    before = branch.queue.clone()
    for step in range(4):
        features = torch.randn(6, 8, 2, 2)
        branch(features, features)
        torch.testing.assert_close(branch.queue, before)  # the loss sees the queue before its own keys
        branch.enqueue()
        changed = (branch.queue != before).any(1).nonzero()[:, 0].tolist()
        assert changed == [n % 12 for n in range(step * 6 % 12, step * 6 % 12 + 6)]
        before = branch.queue.clone()
    assert len(torch.unique(branch.queue, dim=0)) == 12
    branch.eval()(features, features)
    branch.enqueue()
    torch.testing.assert_close(branch.queue, before)


def test_pairs_that_are_not_close_do_not_count():
    torch.manual_seed(0)
    branch = PrototypeMatching(6, prototypes=5, hidden=8, out=4).eval()
    student, teacher = torch.randn(2, 4, 6, 3, 3)
    pairs = torch.randint(36, (4, 7, 2))
    close = (torch.rand(4, 7) < 0.5).float()
    some = branch(student, teacher, pairs, close, 0.05)
    kept = pairs[close > 0][None]
    only = branch(student, teacher, kept, torch.ones(1, kept.shape[1]), 0.05)
    assert some.item() == pytest.approx(only.item(), rel=1e-5)
    assert branch(student, teacher, pairs, torch.zeros(4, 7), 0.05) == 0


def test_the_painted_image_has_the_views_size():
    branch = MaskedReconstruction(16, in_chans=5, stride=8)
    assert branch.decoder(torch.randn(2, 16, 4, 4)).shape == (2, 5, 32, 32)
