"""Conversations exported for trainers: read back by our readers and families, with the same texts, images and boxes."""

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lhrs.data.chat_export import by_label, place_images
from lhrs.data.dataset import get_reader, open_dataset
from lhrs.data.export import export_dataset
from lhrs.data.exporters.internvl import InternVLExporter
from lhrs.data.exporters.llama_factory import LlamaFactoryExporter
from lhrs.data.exporters.llava import LlavaExporter
from lhrs.data.exporters.qwen3_vl import Qwen3VLExporter
from lhrs.data.turn_texts import insert_boxes
from lhrs.data.writers import write_samples
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.inference.model_family import get_family
from lhrs.schema import BOX_PLACEHOLDER, Box, Sample, Turn

SIZE = (400, 250)
NOTATIONS = {
    "llava": (LlavaExporter, "llava"), "qwen3-vl": (Qwen3VLExporter, "qwen3_vl"),
    "internvl": (InternVLExporter, "internvl"), "llama-factory": (LlamaFactoryExporter, "qwen3_vl"),
}  # fmt: skip
CONVERSATIONS = ("llava", "qwen3-vl", "internvl", "llama-factory")
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>[]{}\r\0"), min_size=1, max_size=20)
EDGES = st.tuples(st.integers(0, 400), st.integers(0, 250), st.integers(0, 400), st.integers(0, 250))
BOXES = st.lists(
    st.builds(lambda label, e: Box(label=label, xyxy=(min(e[0], e[2]), min(e[1], e[3]), max(e[0], e[2]),
                                                      max(e[1], e[3]))), WORDS, EDGES),
    max_size=4,
)  # fmt: skip


def talk(*texts, boxes=()):
    roles = ("user", "assistant")
    turns = [Turn(role=roles[n % 2], text=text) for n, text in enumerate(texts)]
    return [*turns[:-1], turns[-1].model_copy(update={"boxes": list(boxes)})]


def sample(number, images, turns, **fields):
    return Sample(id=f"s{number}", images=images, turns=turns, source="set", license="MIT", **fields)


@pytest.fixture
def data(tmp_path):
    """Samples of every kind as our JSON lines: one and two images, none, a raster, boxes with and without places."""
    files = [str(tmp_path / f"{name}.png") for name in "ab"]
    for file in files:
        Image.new("RGB", SIZE, (90, 120, 60)).save(file)
    raster = str(tmp_path / "c.tif")
    with rasterio.open(raster, "w", driver="GTiff", height=SIZE[1], width=SIZE[0], count=3, dtype="uint16") as out:
        out.write(np.arange(3 * SIZE[0] * SIZE[1], dtype=np.uint16).reshape(3, SIZE[1], SIZE[0]))
    ships = [Box(label="ship", xyxy=(40, 50, 120, 100)), Box(label="ship", xyxy=(200, 25, 400, 250))]
    dock = Box(label="dock", xyxy=(0, 0, 100, 125), confidence=0.5)
    samples = [
        sample(0, files[:1], talk("Find all ships.", "Two:", boxes=ships)),
        sample(1, files[:1], talk("What is there?", "A <box> and a <box>.", boxes=[ships[0], dock])),
        sample(2, files, [Turn(role="system", text="Be brief."),
                          *talk("<image> or <image>?", "The first.", "Why?", "Bü")], split="train"),
        sample(3, [], talk("What is a delta?", 'Land at a "mouth".\nOf a river')),
        sample(4, [raster], talk("Where is it?", "", boxes=[dock])),
        sample(5, files[1:], [], boxes=[dock], labels=["port"]),
        sample(6, files[1:], [*talk("One?"), *talk("Two?", "2")]),
    ]  # fmt: skip
    write_samples(samples, tmp_path / "samples.jsonl")
    return open_dataset(tmp_path / "samples.jsonl")


def rows_of(folder):
    path = next(path for path in (folder / "data.json", folder / "data.jsonl") if path.exists())
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("target", CONVERSATIONS)
def test_our_reader_reads_the_export(data, target, tmp_path):
    dropped = Dropped()
    assert export_dataset(data, tmp_path / "out", target, dropped) == 5
    read = list(get_reader("llava")(tmp_path / "out"))
    assert [one.id for one in read] == [f"data/s{n}" for n in range(5)]
    for one, original in zip(read, data, strict=False):
        assert [turn.role for turn in one.turns] == [turn.role for turn in original.turns]
        if original.id != "s4":
            assert one.images == original.images
    assert Image.open(read[4].images[0]).size == SIZE and read[4].images[0].startswith(str(tmp_path / "out/images/"))
    assert read[2].turns[0].text == "Be brief." and read[2].turns[1].text == "<image> or <image>?"
    assert read[3].turns[1].text == 'Land at a "mouth".\nOf a river' and "<image>" not in read[3].turns[0].text
    counts = dropped.to_dict()
    reasons = " ".join(map(str, counts))
    for part in ("samples without an answer", "not questions and answers in turn", "`confidence` of boxes"):
        assert part in reasons or part in str(counts)
    assert ("labels of boxes" in str(counts)) == (target == "llava")
    (source,) = json.loads((tmp_path / "out/sources.json").read_text())
    assert source == {"source": "set", "license": "MIT", "attribution": None, "samples": 5}


@pytest.mark.parametrize("target", ["llava", "internvl", "swift"])
def test_boxes_come_back_from_what_is_recognized(data, target, tmp_path):
    export_dataset(data, tmp_path / "out", target)
    read = open_dataset(tmp_path / "out")
    for one, original in zip(read, data, strict=False):
        boxes, expected = ([box for turn in s.turns for box in turn.boxes] for s in (one, original))
        np.testing.assert_allclose(
            np.array([box.xyxy for box in boxes]).reshape(-1, 4),
            np.array([box.xyxy for box in expected]).reshape(-1, 4),
            atol=0 if target == "swift" else 0.5 / 1000 * max(SIZE) + 1e-6,
        )
        if target != "llava":  # whose notation has no labels
            assert [box.label for box in boxes] == [box.label for box in expected]


def test_the_rows_are_those_of_each_trainer(data, tmp_path):
    for target in ("llava", "qwen3-vl", "internvl", "llama-factory", "swift"):
        export_dataset(data, tmp_path / target, target)
    image = data[0].images[0]
    llava, qwen, intern, factory, swift = (rows_of(tmp_path / name) for name in
                                           ("llava", "qwen3-vl", "internvl", "llama-factory", "swift"))  # fmt: skip
    # (40, 50, 120, 100) of 400 x 250 is 0.1, 0.2, 0.3, 0.4.
    assert llava[0] == {"id": "s0", "image": image, "conversations": [
        {"from": "human", "value": "<image>\nFind all ships."},
        {"from": "gpt", "value": "Two: [0.100, 0.200, 0.300, 0.400], [0.500, 0.100, 1.000, 1.000]"},
    ]}  # fmt: skip
    assert llava[1]["conversations"][1]["value"] == (
        "A [0.100, 0.200, 0.300, 0.400] and a [0.000, 0.000, 0.250, 0.500]."
    )
    assert qwen[0]["conversations"][1]["value"] == (
        'Two: [{"bbox_2d": [100, 200, 300, 400], "label": "ship"}, '
        '{"bbox_2d": [500, 100, 1000, 1000], "label": "ship"}]'
    )
    assert "image" not in qwen[2] and qwen[2]["images"] == data[2].images and qwen[2]["system"] == "Be brief."
    assert (intern[0]["width"], intern[0]["height"]) == SIZE and intern[2]["width_list"] == [400, 400]
    assert intern[0]["conversations"][1]["value"] == (
        "Two: <ref>ship</ref><box>[[100, 200, 300, 400], [500, 100, 1000, 1000]]</box>"
    )
    assert intern[1]["conversations"][1]["value"] == (
        "A <ref>ship</ref><box>[[100, 200, 300, 400]]</box> and a <ref>dock</ref><box>[[0, 0, 250, 500]]</box>."
    )
    meta = json.loads((tmp_path / "internvl/meta.json").read_text())["lhrs"]
    assert meta["length"] == len(intern) == 5 and (tmp_path / "internvl" / meta["annotation"]).exists()
    info = json.loads((tmp_path / "llama-factory/dataset_info.json").read_text())["lhrs"]
    assert info["columns"] == {"messages": "conversations", "images": "images", "system": "system"}
    assert factory[3]["images"] == [] and (tmp_path / "llama-factory" / info["file_name"]).exists()
    assert swift[0] == {
        "id": "s0", "images": [image],
        "messages": [{"role": "user", "content": "<image>\nFind all ships."},
                     {"role": "assistant", "content": "Two: <ref-object><bbox><ref-object><bbox>"}],
        "objects": {"ref": ["ship", "ship"], "bbox": [[40, 50, 120, 100], [200, 25, 400, 250]]},
    }  # fmt: skip
    assert swift[1]["messages"][1]["content"] == "A <bbox> and a <bbox>." and "objects" not in swift[3]
    assert swift[2]["messages"][0] == {"role": "system", "content": "Be brief."} and swift[2]["split"] == "train"


@pytest.mark.parametrize("target", CONVERSATIONS)
@settings(max_examples=30, deadline=None)
@given(boxes=BOXES)
def test_the_family_reads_the_boxes(target, boxes):
    exporter, family = NOTATIONS[target]
    text = insert_boxes("There:", boxes, SIZE, exporter().write_boxes)
    read = get_family(family).read_boxes(text, SIZE)
    assert read.num_malformed == 0
    expected = np.array([box.xyxy for box in boxes]).reshape(-1, 4) / np.tile(SIZE, 2)
    np.testing.assert_allclose(read.boxes, expected, atol=0.5 / 1000 + 1e-6)
    if target == "internvl":
        assert text.count("<ref>") == len(list(by_label(boxes)))
    elif family == "qwen3_vl" and boxes:
        assert [row["label"] for row in json.loads(text.removeprefix("There: "))] == [box.label for box in boxes]


@settings(deadline=None)
@given(pieces=st.lists(WORDS, min_size=2, max_size=5), boxes=st.lists(EDGES, min_size=4, max_size=4))
def test_boxes_are_at_their_places(pieces, boxes):
    # Words without digits or commas between the places, so that no two places are one run.
    names = [f"w{'x' * n}" for n in range(len(pieces))]
    text = f" {BOX_PLACEHOLDER} ".join(names)
    of_text = [Box(label=f"l{n}", xyxy=(min(a, c), min(b, d), max(a, c), max(b, d)))
               for n, (a, b, c, d) in enumerate(boxes[: len(names) - 1])]  # fmt: skip
    found = insert_boxes(text, of_text, SIZE, lambda some, size, before: "|".join(box.label for box in some))
    assert found == " ".join(part for n, name in enumerate(names) for part in ([f"l{n - 1}", name] if n else [name]))
    run = insert_boxes("a <box>, <box> b", of_text[:1] * 2, SIZE, lambda some, size, before: f"{len(some)}")
    assert run == "a 2 b"
    assert insert_boxes("a <box>", of_text[:1] * 2, SIZE, lambda some, size, before: "x") == "a <box> x"


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(WORDS, min_size=2, max_size=6), system=st.none() | WORDS, num_images=st.integers(0, 3))
def test_texts_survive_and_a_second_export_is_the_same(tmp_path_factory, texts, system, num_images):
    folder = tmp_path_factory.mktemp("texts")
    images = [str(folder / f"{n}.png") for n in range(num_images)]
    for image in images:
        Image.new("RGB", (8, 6)).save(image)
    texts = texts[: len(texts) // 2 * 2]
    turns = talk(*texts)
    if system is not None and system.strip():
        turns = [Turn(role="system", text=system), *turns]
    write_samples([sample(0, images, turns)], folder / "samples.jsonl")
    export_dataset(open_dataset(folder / "samples.jsonl"), folder / "one", "llava")
    (read,) = get_reader("llava")(folder / "one")
    assert read.images == images and [turn.role for turn in read.turns] == [turn.role for turn in turns]
    spoken = [turn.text for turn in read.turns if turn.role != "system"]
    assert spoken == place_images(read.model_copy(update={"turns": []}), [Turn(role="user", text=texts[0])]) + texts[1:]
    assert [turn.text for turn in read.turns if turn.role == "system"] == [t.text for t in turns if t.role == "system"]
    export_dataset(get_reader("llava")(folder / "one"), folder / "two", "llava")
    one, two = rows_of(folder / "one"), rows_of(folder / "two")
    assert [{**row, "id": ""} for row in two] == [{**row, "id": ""} for row in one]


@pytest.mark.parametrize(
    ("turns", "images", "target", "message"),
    [
        (talk("<image><image>?", "x"), 1, "llava", r"sample 's0' of set: 2 <image> for 1 images\."),
        (talk("?", "an <image>"), 1, "llava", r"sample 's0' of set: 1 <image> outside the user's turns\."),
        (
            talk("?", "x", boxes=[Box(label="a", xyxy=(9, 0, 1, 5))]),
            1,
            "qwen3-vl",
            "sample 's0' of set: not xyxy boxes",
        ),
        (talk("?", "x", boxes=[Box(label="a", xyxy=(0, 0, 1, 5))]), 0, "qwen3-vl", "has boxes but no image"),
        (talk("?", "a <bbox>"), 1, "swift", "sample 's0' of set: <bbox> in a text, which ms-swift replaces"),
    ],
)
def test_what_cannot_be_written_is_one_line(turns, images, target, message, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    write_samples([sample(0, [str(tmp_path / "a.png")] * images, turns)], tmp_path / "samples.jsonl")
    with pytest.raises(DataError, match=message):
        export_dataset(open_dataset(tmp_path / "samples.jsonl"), tmp_path / "out", target)
    assert not (tmp_path / "out").exists()


def test_an_upright_copy_is_made_of_a_turned_photo(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    box = Box(label="a", xyxy=(0, 0, 10, 40))  # of the upright 20 x 40 pixels
    write_samples([sample(0, [str(tmp_path / "a.jpg")], talk("?", "", boxes=[box]))], tmp_path / "samples.jsonl")
    export_dataset(open_dataset(tmp_path / "samples.jsonl"), tmp_path / "out", "llava")
    (row,) = rows_of(tmp_path / "out")
    assert Image.open(tmp_path / "out" / row["image"]).size == (20, 40)
    assert row["conversations"][1]["value"] == "[0.000, 0.000, 0.500, 1.000]"


def test_nothing_to_write_and_unknown_targets_are_one_line(data, tmp_path):
    write_samples([data[5]], tmp_path / "one.jsonl")
    with pytest.raises(ConfigError, match=r"has no conversations; `lhrs instruct build` makes some\. left out"):
        export_dataset(open_dataset(tmp_path / "one.jsonl"), tmp_path / "out", "llava")
    with pytest.raises(ConfigError, match="llava"):
        export_dataset(data, tmp_path / "out", "lava")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export_dataset(data, tmp_path / "full", "llava")
    assert (tmp_path / "full/x").read_text() == "mine"
