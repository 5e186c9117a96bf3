"""Conversations and captions in the layouts in which they are published: what is read of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.data.lint import lint
from lhrs.data.shards import write_shards
from lhrs.data.writers import write_samples
from lhrs.errors import DataError
from lhrs.imagery import open_image
from lhrs.schema import Sample

MINIATURES = Path(__file__).parent / "miniatures"
TILE = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
READERS = {
    "geochat": "llava",
    "geochat/GeoChat_Instruct.json": "llava",
    "vrsbench": "llava",
    "fit_rs": "llava",
    "vhm": "llava",
    "lhrs_instruct": "lhrs_instruct",
    "lhrs_instruct/RSVG.json": "lhrs_instruct",
    "lhrs_align": "lhrs_align",
    "lhrs_align/OSMCapAnn": "lhrs_align",
    "messages/swift.jsonl": "messages",
    "messages/qwen.jsonl": "messages",
    "messages/openai.jsonl": "messages",
    "messages/llama_factory.json": "messages",
    "rsteller": "webdataset",
    "rsteller/Patches0000.tar": "webdataset",
    "rs5m": "webdataset",
    "rsicd": "karpathy",
    "ucm_captions": "karpathy",
    "nwpu_captions": "karpathy",
    "skyscript/dataframe/SkyScript_train_top30pct.csv": "skyscript",
    "chatearthnet": "chatearthnet",
    "chatearthnet/json_files/ChatEarthNet_caps_35_val.json": "chatearthnet",
    "levir_cc": "levir_cc",
    "bigearthnet_txt": "bigearthnet_txt",
}


def texts(sample: Sample) -> list[str]:
    return [turn.text for turn in sample.turns]


def boxes(sample: Sample) -> list[list[tuple[str, list[float]]]]:
    """Label and rounded box of every box of every turn."""
    return [[(box.label, [round(v, 1) for v in box.xyxy]) for box in turn.boxes] for turn in sample.turns]


def without_images(sample: Sample) -> Sample:
    return sample.model_copy(update={"images": []})


@pytest.mark.parametrize(("place", "reader"), READERS.items())
class TestEverySet:
    def test_it_is_recognized_and_its_images_open(self, place, reader):
        assert detect_format(MINIATURES / place) == reader
        data = open_dataset(MINIATURES / place)
        assert len(data) and len({sample.id for sample in data}) == len(data)
        assert all(open_image(image).pixels.size for sample in data for image in sample.images)
        assert all(sample.images and sample.turns[-1].text for sample in data)

    def test_it_passes_lint(self, place, reader):
        assert [finding for finding in lint(open_dataset(MINIATURES / place)) if finding.severity == "error"] == []

    @pytest.mark.parametrize("name", ["out/own.jsonl", "out/own.parquet"])
    def test_our_own_files_keep_it(self, place, reader, name, tmp_path):
        samples = list(open_dataset(MINIATURES / place))
        write_samples(samples, tmp_path / name)
        assert list(open_dataset(tmp_path / name)) == samples

    def test_our_shards_keep_it(self, place, reader, tmp_path):
        samples = list(open_dataset(MINIATURES / place))
        write_shards(samples, tmp_path / "out", 2)
        again = list(open_dataset(tmp_path / "out"))
        assert list(map(without_images, again)) == list(map(without_images, samples))
        for before, after in zip(samples, again, strict=True):
            pixels = [[open_image(image, None).pixels for image in sample.images] for sample in (before, after)]
            assert len(pixels[0]) == len(pixels[1]) and all(map(np.array_equal, *pixels))


def test_geochat():
    refer, identify, grounding, talk = open_dataset(MINIATURES / "geochat")
    assert refer.images == [str(MINIATURES / "geochat/images/final_images_llava/00000.png")]
    assert texts(refer) == ["<image>\n[refer] <p>small white plane</p>", "<box>"]
    assert boxes(refer) == [[], [("small white plane", [20, 20, 60, 40])]]
    (box,) = identify.turns[0].boxes  # a square of 10 pixels would be 20 % of the height: 40-50 x 20-30, turned by 45
    np.testing.assert_allclose(
        box.corners, [[45, 25 - 50**0.5], [45 + 50**0.5, 25], [45, 25 + 50**0.5], [45 - 50**0.5, 25]]
    )
    assert texts(identify)[0] == "<image>\n[identify] <box>"
    # 90 degrees: 20 x 10 pixels before the turn
    assert boxes(grounding)[1] == [
        ("Two ships", [15, 5, 25, 25]), ("Two ships", [55, 5, 65, 25]), ("a port", [0, 0, 9, 4.5])]  # fmt: skip
    assert texts(grounding)[1] == "<p>Two ships</p> <box><box> at <p>a port</p> <box>."
    assert texts(talk) == ["<image>\nIs it a rural area?", "No", "And water?", "Yes"]


def test_vrsbench_and_vhm():
    caption, question, refer = open_dataset(MINIATURES / "vrsbench")
    assert texts(caption)[1] == "A high-resolution image of a harbor." and texts(question)[1] == "3"
    assert boxes(refer)[1] == [("The large ship", [128.0, 204.8, 256.0, 384.0])] and texts(refer)[1] == "<box>"
    red, none = open_dataset(MINIATURES / "vhm")
    assert red.images == [str(MINIATURES / "vhm/DOTA-train/P0001.png")]
    assert none.images == [str(MINIATURES / "vhm/FBP/P0001.png")] and texts(none)[1] == "There is no plane."


def test_fit_rs_has_centers_and_angles():
    (sample,) = open_dataset(MINIATURES / "fit_rs")
    assert texts(sample)[1] == "There are <ref>two ships</ref><box><box> in the image."
    straight, turned = sample.turns[1].boxes
    assert [round(v, 2) for v in straight.xyxy] == [102.4, 204.8, 153.6, 307.2] and straight.corners is None
    (x1, y1), (x2, y2), *_ = turned.corners
    assert np.degrees(np.arctan2(y2 - y1, x2 - x1)) == pytest.approx(30)
    assert np.hypot(x2 - x1, y2 - y1) == pytest.approx(0.2 * 512)
    np.testing.assert_allclose(np.mean(turned.corners, 0), [0.605 * 512, 0.4025 * 512])


def test_lhrs_instruct():
    talk, refer = open_dataset(MINIATURES / "lhrs_instruct")
    assert texts(talk) == ["<image>What is it?", "An airport.", "Big?", "Yes."] and talk.source == "RSITMD"
    assert boxes(refer) == [[], [("the tank", [10, 20, 35, 40])]]


@pytest.mark.parametrize("place", ["lhrs_align", "lhrs_align/OSMCapAnn"])
def test_lhrs_align_has_two_captions(place):
    (caption,) = open_dataset(MINIATURES / place)
    assert texts(caption) == ["Describe the image.", "A river."] and caption.task == "caption"
    (recap,) = open_dataset(MINIATURES / place, "lhrs_align_recap")
    assert texts(recap)[1] == "A river bends."


def test_messages_of_ms_swift():
    plain, grounded, two = open_dataset(MINIATURES / "messages/swift.jsonl")
    assert texts(plain) == ["<image>What is it?", "A port."]
    assert texts(grounded) == ["Be exact.", "<image>Find the ship.", "<box><box>"]
    assert boxes(grounded)[2] == [("ship", [10, 20, 30.5, 40]), ("ship", [100, 50, 140, 90])]
    assert [Path(image).name for image in two.images] == ["0.png", "2.png"]


def test_messages_of_qwen_openai_and_llama_factory():
    (qwen,) = open_dataset(MINIATURES / "messages/qwen.jsonl")
    assert texts(qwen) == ["<image>\nFind the ship.", "the ship<box>"]
    assert boxes(qwen)[1] == [("the ship", [20, 20, 100, 80])]
    (openai,) = open_dataset(MINIATURES / "messages/openai.jsonl")
    assert [turn.role for turn in openai.turns] == ["system", "user", "assistant"]
    assert openai.images == [str(MINIATURES / "messages/images/2.png")] and texts(openai)[1] == "What is it?\n<image>"
    (factory,) = open_dataset(MINIATURES / "messages/llama_factory.json")
    assert factory.images == [str(MINIATURES / "messages/images/1.png")]


def test_rsteller_is_a_sample_per_caption():
    data = open_dataset(MINIATURES / "rsteller")
    assert [(sample.id, texts(sample)[1]) for sample in data] == [
        ("rsteller/Patches0000/607/caption-0", "A road crosses patch 607."),
        ("rsteller/Patches0000/607/caption-1", "Patch 607 shows a road."),
        ("rsteller/Patches0000/608/caption-0", "A road crosses patch 608."),
        ("rsteller/Patches0000/608/caption-1", "Patch 608 shows a road."),
    ]
    assert data.dropped.to_dict() == {}
    assert data[0].images[0].startswith("/vsisubfile/") and open_image(data[0].images[0]).width == 44


def test_rs5m_has_its_own_names_of_members():
    data = open_dataset(MINIATURES / "rs5m")
    assert [texts(sample)[1] for sample in data][:2] == ["a satellite image of pub11", "fields"]
    assert [sample.split for sample in data] == ["train", "train", "val", "val"]
    assert len(open_dataset(MINIATURES / "rs5m", split="val")) == 2
    assert data.dropped.to_dict() == {"files in shards": 1}


def test_karpathys_captions():
    data = open_dataset(MINIATURES / "rsicd")
    assert [(texts(sample)[1], sample.split) for sample in data] == [
        ("many planes .", "train"), ("an airport .", "train"), ("a river .", "test")]  # fmt: skip
    assert data[0].images == [str(MINIATURES / "rsicd/RSICD_images/airport_1.jpg")]
    assert [texts(sample)[1] for sample in open_dataset(MINIATURES / "rsicd", split="test")] == ["a river ."]
    nwpu = open_dataset(MINIATURES / "nwpu_captions")
    assert [texts(sample)[1] for sample in nwpu] == ["Three planes .", "Planes stand ."]
    assert nwpu[0].labels == ["airplane"] == nwpu.classes


def test_skyscript_has_one_or_two_captions():
    first, second, third = open_dataset(MINIATURES / "skyscript/dataframe/SkyScript_train_top30pct.csv")
    assert [texts(s)[1] for s in (first, second)] == ["a hedge", 'a hedge, surrounded by "farmland"']
    assert third.images == [str(MINIATURES / "skyscript/images2/n2_US_21.jpg")] and third.split == "train"


def test_chatearthnet():
    train, val = open_dataset(MINIATURES / "chatearthnet")
    assert (train.split, texts(train)[1], val.split, texts(val)[1]) == (
        "train", "This image shows crops.", "val", "Mostly forest.")  # fmt: skip
    assert train.images == [str(MINIATURES / "chatearthnet/s2_rgb_images/s2_images/7.png")]


def test_levir_cc_has_the_images_of_both_dates():
    data = open_dataset(MINIATURES / "levir_cc")
    assert [(texts(sample)[1], sample.labels) for sample in data] == [
        ("two houses appear .", ["change"]), ("second sentence .", ["change"]),
        ("nothing has changed .", ["no change"]), ("second sentence .", ["no change"])]  # fmt: skip
    folder = MINIATURES / "levir_cc/images/train"
    assert data[0].images == [str(folder / f"{date}/train_000001.png") for date in "AB"]
    assert len(data.image_files(0)) == 2 and len(open_dataset(MINIATURES / "levir_cc", split="test")) == 2


def test_bigearthnet_txt():
    caption, refer, question = open_dataset(MINIATURES / "bigearthnet_txt")
    assert caption.images == [str(MINIATURES / f"bigearthnet_txt/BigEarthNet-S2/{TILE}/{TILE}_26_57")]
    assert boxes(refer)[1] == [("the lake", [30, 36, 60, 90])] and texts(refer)[1] == "<box>"
    assert (question.task, question.split, texts(question)[1]) == ("binary", "train", "no")
    assert len(open_dataset(MINIATURES / "bigearthnet_txt", split="train")) == 3
    with pytest.raises(DataError, match="has no split 'test'; it has train"):
        open_dataset(MINIATURES / "bigearthnet_txt", split="test")


def test_our_own_files_may_be_moved_with_their_shards(tmp_path):
    shutil.copytree(MINIATURES / "rsteller", tmp_path / "a/shards")
    write_samples(list(open_dataset(tmp_path / "a/shards")), tmp_path / "a/own.jsonl")
    (tmp_path / "a").rename(tmp_path / "b")
    assert "../" not in json.loads((tmp_path / "b/own.jsonl").read_text().splitlines()[0])["images"][0]
    assert open_image(open_dataset(tmp_path / "b/own.jsonl")[0].images[0]).width == 44
