"""`lhrs pretrain`: whole runs on real files, resumed, on two processes, and what they hand on."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tests.training.tiny import TWO, finish, losses, start_lhrs, wait_for_checkpoint, write_parts, write_run

from lhrs.cmid.backbone import recompute_bn_stats, to_feature_map
from lhrs.cmid.load_backbone import load_backbone
from lhrs.cmid.model import CMID
from lhrs.cmid.teacher import ema_momentum, update_teacher
from lhrs.cmid.two_views import resize_full_window
from lhrs.errors import CheckpointError, ConfigError, DataError, LHRSError
from lhrs.models.presets import build_model, get_preset
from lhrs.training.cmid import WEIGHTS, build_cmid, load_pretraining
from lhrs.training.dispatch import load_run, train


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for n in range(24):
        small = rng.integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
    return folder


def settings(images, out, **changes):
    made = {
        "kind": "cmid", "output_dir": str(out), "device": "cpu", "num_threads": 1, "logging_steps": 1, "save_steps": 3,
        "backbone": {"name": "test_convnext", "size": 64},
        "data": {"paths": [str(images)], "window_size": 64},
        "masked_branch": {"mask_grid": 4},
        "global_branch": {"queue_size": 64, "hidden_dim": 32, "out_dim": 16},
        "local_branch": {"prototypes": 24, "hidden_dim": 32, "out_dim": 16, "num_matches": 3, "max_match_distance": 20},
        "optim": {"batch_size": 8, "steps": 9, "lr": 2e-3},
    }  # fmt: skip
    return {**made, **changes}


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(load_run(write_run(out.parent / "run.yaml", settings(images, out))))
    return out


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, images, finished):
    out = tmp_path / "run"
    file = write_run(tmp_path / "run.yaml", settings(images, out))
    process = start_lhrs(file)
    wait_for_checkpoint(process, out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "pretraining.safetensors").exists()
    assert "resuming from step" in finish(start_lhrs(file))
    assert losses(out) == losses(finished)
    for name in ("pretraining.safetensors", "model/model.safetensors"):
        assert (out / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_run_goes_on_with_what_another_learned(tmp_path, images, finished):
    still = {"batch_size": 8, "steps": 1, "lr": 1e-9, "min_lr": 0, "weight_decay": 0}
    out = tmp_path / "more"
    train(
        load_run(
            write_run(
                tmp_path / "run.yaml", settings(images, out, init_from=str(finished), ema_momentum=1, optim=still)
            )
        )
    )
    before, after = (load_file(folder / "pretraining.safetensors") for folder in (finished, out))
    same = [name for name in before if not name.endswith(("queue", "place", "center"))]
    for name in same:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0, msg=name)
    assert after["global_.place"] == (before["global_.place"] + 16) % 64
    timm_s = {
        "name": "test_convnext",
        "size": 64,
        "args": {"checkpoint_path": str(finished / "model/model.safetensors")},
    }
    third = settings(images, tmp_path / "third", backbone=timm_s, ema_momentum=1, optim=still)
    train(load_run(write_run(tmp_path / "third.yaml", third)))
    one, two = (
        timm.create_model(f"local-dir:{folder / 'model'}", pretrained=True).state_dict()
        for folder in (finished, tmp_path / "third")
    )
    torch.testing.assert_close(two, one, atol=1e-6, rtol=0)
    other = settings(images, tmp_path / "other", init_from=str(finished), backbone={"name": "resnet18", "size": 64})
    with pytest.raises(CheckpointError, match=" does not fit: ") as error:
        train(load_run(write_run(tmp_path / "other.yaml", other)))
    assert "\n" not in str(error.value) and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, images, finished):
    file = write_run(tmp_path / "run.yaml", settings(images, tmp_path / "two"))
    finish(start_lhrs(file, launcher=TWO))
    assert losses(tmp_path / "two") == pytest.approx(losses(finished), abs=1e-4)
    one, two = (load_file(folder / "pretraining.safetensors") for folder in (finished, tmp_path / "two"))
    # The optimizer divides by the size of the gradient: where that is rounding, so is the step.
    for name in ("global_.queue", "local.center"):
        torch.testing.assert_close(two[name], one[name], atol=1e-3, rtol=1e-3, msg=name)


def test_the_result_loads_in_timm_and_becomes_an_encoder(tmp_path, images, finished):
    model = timm.create_model(f"local-dir:{finished / 'model'}", pretrained=True).eval()
    made = load_run(finished / "run.yaml")
    module = build_cmid(made, 3)
    load_pretraining(module, finished)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(module.student.model.state_dict()[name], value)
    apart = load_file(finished / WEIGHTS)  # nothing is stored twice
    assert not any(name.startswith("student.model.") for name in apart) and "teacher.model.stem.0.weight" in apart
    parts = write_parts(tmp_path / "parts")
    bridge = {"queries": [4, 3], "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    preset = replace(get_preset("lhrs-bot-7b"), levels=(1, 3))
    built, processor = build_model(preset, encoder=finished / "model", language_model=parts["language_model"], **bridge)
    pixels = processor.image_processor(images=[Image.open(images / "0.png")], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    assert built.get_image_features(pixels).pooler_output.shape == (1, 7, built.config.text_config.hidden_size)


def test_thirteen_bands_and_any_backbone(tmp_path):
    values = np.random.default_rng(0).integers(0, 8000, (13, 96, 96)).astype(np.uint16)
    with rasterio.open(tmp_path / "s2.tif", "w", driver="GTiff", height=96, width=96, count=13, dtype="uint16") as out:
        out.write(values)
    for name, extra in (("test_resnet", {}), ("test_vit", {"patch_size": 16}), ("test_efficientnet", None)):
        changes = {"backbone": {"name": name, "size": 64, "args": extra or {}}, "optim": {"batch_size": 4, "steps": 2}}
        made = settings(tmp_path / "s2.tif", tmp_path / name, **changes)
        made["data"]["window_size"] = 32
        run = load_run(write_run(tmp_path / "run.yaml", made))
        if extra is None:
            with pytest.raises(ConfigError, match="after which the mask token is added"):
                train(run)
            assert not run.output_dir.exists()
            continue
        train(run)
        model = timm.create_model(f"local-dir:{run.output_dir / 'model'}", pretrained=True)
        assert model(torch.zeros(1, 13, 64, 64)).ndim == 2
        config = json.loads((run.output_dir / "model/config.json").read_text())
        assert 0.3 < config["pretrained_cfg"]["mean"][0] < 0.5  # of reflectance
        probe = load_backbone(str(run.output_dir / "model"), 64)  # sees reflectance too, not a picture of it
        scaled = torch.from_numpy(values / np.float32(10_000))[None]
        mean, std = (
            x.view(1, -1, 1, 1) for x in (torch.tensor(probe.normalization.mean), torch.tensor(probe.normalization.std))
        )
        pixels = (F.interpolate(scaled, (64, 64), mode="bilinear", antialias=True) - mean) / std
        with torch.no_grad():
            wanted = to_feature_map(probe.model, probe.model.forward_features(pixels)).mean((2, 3))
        torch.testing.assert_close(probe.pooled_features([tmp_path / "s2.tif"]), wanted, atol=1e-4, rtol=1e-4)
        Image.new("RGB", (64, 64)).save(tmp_path / "rgb.png")
        with pytest.raises(DataError, match="has 3 bands, 13 are needed"):
            probe.pooled_features([tmp_path / "rgb.png"])


def test_rank_and_neighbours_are_logged_and_change_nothing(tmp_path, images, finished):
    for n, path in enumerate(sorted(images.iterdir())):
        (tmp_path / "labeled" / "ab"[n % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "labeled" / "ab"[n % 2] / path.name).symlink_to(path)
    watch = {"steps": 3, "labeled_dir": str(tmp_path / "labeled")}
    train(load_run(write_run(tmp_path / "run.yaml", settings(images, tmp_path / "run", monitor=watch))))
    assert (tmp_path / "run/pretraining.safetensors").read_bytes() == (
        finished / "pretraining.safetensors"
    ).read_bytes()
    state = json.loads(sorted((tmp_path / "run").glob("checkpoint-*/trainer_state.json"))[-1].read_text())
    seen = [entry for entry in state["log_history"] if "rank" in entry]
    assert [entry["step"] for entry in seen] == [3, 6, 9]
    assert all(1 < entry["rank"] < 24 and 0 <= entry["knn"] <= 1 for entry in seen)


def test_a_folder_with_other_bands_is_not_watched(tmp_path, images):
    with rasterio.open(tmp_path / "s2.tif", "w", driver="GTiff", height=64, width=64, count=4, dtype="uint16") as out:
        out.write(np.full((4, 64, 64), 800, np.uint16))
    (tmp_path / "labeled/a").mkdir(parents=True)
    (tmp_path / "labeled/a/0.png").symlink_to(images / "0.png")
    made = settings(tmp_path / "s2.tif", tmp_path / "run", monitor={"labeled_dir": str(tmp_path / "labeled")})
    made["optim"] = {"batch_size": 1, "steps": 2}
    with pytest.raises(DataError, match="has 3 bands, 4 are needed"):
        train(load_run(write_run(tmp_path / "run.yaml", made)))
    assert not (tmp_path / "run").exists()


def test_statistics_are_measured_where_the_backbone_is():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).to("meta")  # as on a GPU
    seen = []
    model[1].forward = lambda pixels: seen.append(pixels.device.type)
    recompute_bn_stats(model, iter([torch.zeros(2, 3, 8, 8)]))
    assert seen == ["meta"]


@pytest.mark.parametrize(("name", "given", "has"), [("test_resnet", None, True), ("test_convnext", None, False),
                                                    ("test_resnet", False, False)])  # fmt: skip
def test_heads_have_batch_norms_where_the_backbone_has(tmp_path, images, name, given, has):
    made = settings(images, tmp_path / "run", backbone={"name": name, "size": 64})
    made["local_branch"] = {**made["local_branch"], "batch_norm": given}
    module = build_cmid(load_run(write_run(tmp_path / "run.yaml", made)), 3)
    assert any(isinstance(part, torch.nn.BatchNorm1d) for part in module.local.modules()) is has


def test_each_branch_can_be_turned_off(tmp_path, images):
    for off, left in (("masked", {"global", "local"}), ("local", {"masked", "global"}), ("both", {"masked"})):
        names = ["global_branch", "local_branch"] if off == "both" else [f"{off}_branch"]
        made = settings(images, tmp_path / off, optim={"batch_size": 8, "steps": 1})
        for name in names:
            made[name] = {**made[name], "weight": 0}
        train(load_run(write_run(tmp_path / "run.yaml", made)))
        state = load_file(tmp_path / off / "pretraining.safetensors")
        assert {name.split(".")[0].rstrip("_") for name in state} - {"student", "teacher"} == left
        assert any(name.startswith("teacher") for name in state) == (off != "both")


def test_the_teacher_follows_the_student_as_it_is_after_the_step(images, finished):
    assert ema_momentum(0, 10) == pytest.approx(0.996) and ema_momentum(10, 10) == 1
    torch.manual_seed(0)
    module = CMID("test_resnet", 3, 64, {}, {"queue_size": 16}, {"prototypes": 8})
    student, teacher = module.student.model.conv1[0].weight, module.teacher.model.conv1[0].weight
    torch.testing.assert_close(student, teacher)
    before = teacher.clone()
    with torch.no_grad():
        student += 1
    update_teacher(module, 0.9)
    torch.testing.assert_close(teacher, before + 0.1)
    assert not any(p.requires_grad for p in module.teacher.parameters())


def test_batch_norm_is_measured_on_whole_images(tmp_path, images):
    made = settings(images, tmp_path / "run", backbone={"name": "test_resnet", "size": 64})
    train(load_run(write_run(tmp_path / "run.yaml", made)))
    model = timm.create_model(f"local-dir:{tmp_path / 'run/model'}", pretrained=True)
    config = json.loads((tmp_path / "run/model/config.json").read_text())["pretrained_cfg"]
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    pixels = torch.stack(
        [resize_full_window(np.array(Image.open(images / f"{n}.png")).transpose(2, 0, 1), 64) for n in range(24)]
    )
    pixels = (pixels / 255 - mean) / std
    seen = []
    model.bn1.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        model.train()(pixels)
    torch.testing.assert_close(load_file(tmp_path / "run/model/model.safetensors")["bn1.running_mean"], seen[0],
                               atol=1e-4, rtol=1e-3)  # fmt: skip


def test_pictures_come_every_so_often(tmp_path, images):
    made = settings(images, tmp_path / "run", figure_steps=2, optim={"batch_size": 8, "steps": 5})
    train(load_run(write_run(tmp_path / "run.yaml", made)))
    names = sorted(p.name for p in (tmp_path / "run/figures").iterdir())
    assert names == ["step-0.png", "step-2.png", "step-4.png"]
    assert Image.open(tmp_path / "run/figures/step-4.png").size == (4 * 64, 6 * 64)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"backbone": {"name": "resnet81", "size": 64}}, "timm has no backbone 'resnet81'"),
        ({"global_branch": {"queue_size": 60}}, "no multiple of the 16 keys"),
        ({"masked_branch": {"mask_grid": 7}}, "64 pixels do not divide"),
        (
            {"masked_branch": {"weight": 0}, "global_branch": {"weight": 0}, "local_branch": {"weight": 0}},
            "there is no loss",
        ),
        ({"data": {"paths": ["nowhere"]}}, "nowhere does not exist"),
        ({"sync_batch_norm": True}, "needs GPUs"),
        ({"optim": {"batch_size": 8}}, "either `epochs` or `steps`"),
        ({"optim": {"batch_size": 32, "steps": 2}}, "fewer than one batch"),
    ],
)
def test_mistakes_are_one_line(tmp_path, images, change, why):
    file = write_run(tmp_path / "run.yaml", {**settings(images, tmp_path / "run"), **change})
    with pytest.raises(LHRSError, match=why) as error:
        train(load_run(file))
    assert "\n" not in str(error.value)
