import gzip
import json
import pickle
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from lhrs import registry
from lhrs.data.dataset import READERS, Dataset, detect_format, get_reader, open_dataset
from lhrs.errors import ConfigError, DataError, MissingExtraError
from lhrs.schema import Box, Sample, Turn


def record(number: int, split: str | None = None) -> dict:
    return {
        "id": f"set/{number}",
        "images": [f"images/{number}.png"],
        "turns": [
            {"role": "user", "text": "What is it?"},
            {"role": "assistant", "text": f"Number {number}: façade.", "boxes": []},
        ],
        "boxes": [{"label": "ship", "xyxy": [1.0, 2.0, 3.5, 4.0]}] if number % 2 else [],
        "source": "set",
        "license": "CC0-1.0",
        "split": split,
    }


def write_lines(path: Path, records: list[dict]) -> Path:
    text = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_parquet(path: Path, records: list[dict]) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(records), path, row_group_size=2)
    return path


WRITERS = {"set.jsonl": write_lines, "set.jsonl.gz": write_lines, "set.parquet": write_parquet}


@pytest.mark.parametrize("name", WRITERS)
class TestOurSchema:
    def write(self, folder: Path, name: str, records: list[dict]) -> Path:
        return WRITERS[name](folder / name, records)

    def test_samples_come_back_as_written_with_absolute_images(self, tmp_path, name):
        data = open_dataset(self.write(tmp_path, name, [record(i) for i in range(5)]))
        assert len(data) == 5
        expected = Sample.model_validate(record(3) | {"images": [str(tmp_path / "images/3.png")]})
        assert data[3] == data[-2] == expected
        assert [sample.id for sample in data] == [f"set/{i}" for i in range(5)]
        assert [sample.id for sample in data[3:]] == ["set/3", "set/4"]

    def test_a_split_is_a_part_in_the_same_order(self, tmp_path, name):
        path = self.write(tmp_path, name, [record(i, ["train", "val", None][i % 3]) for i in range(7)])
        assert [sample.id for sample in open_dataset(path, split="val")] == ["set/1", "set/4"]

    def test_an_unknown_split_names_the_known_ones(self, tmp_path, name):
        path = self.write(tmp_path, name, [record(0, "train"), record(1, "val")])
        with pytest.raises(DataError, match="has no split 'test'; it has train, val"):
            open_dataset(path, split="test")

    def test_a_folder_is_its_files_in_order_of_their_names(self, tmp_path, name):
        self.write(tmp_path, name, [record(0)])
        (tmp_path / name).rename(tmp_path / f"b-{name}")
        self.write(tmp_path, f"{name}", [record(1)])
        (tmp_path / name).rename(tmp_path / f"a-{name}")
        assert [sample.id for sample in open_dataset(tmp_path)] == ["set/1", "set/0"]

    def test_a_reader_travels_to_another_process(self, tmp_path, name):
        data = open_dataset(self.write(tmp_path, name, [record(i) for i in range(3)]))
        assert pickle.loads(pickle.dumps(data))[2] == data[2]

    def test_an_index_beyond_the_end_is_refused(self, tmp_path, name):
        with pytest.raises(IndexError, match="has 1 samples, there is no number 1"):
            open_dataset(self.write(tmp_path, name, [record(0)]))[1]


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        (json.dumps(record(0) | {"turns": [{"role": "bot", "text": ""}]}), "turns.0.role: Input should be 'user'"),
        (json.dumps(record(0) | {"image": "a.png"}), "unknown key 'image' in the top level. Did you mean 'images'?"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, name, line, expected):
    text = f"{json.dumps(record(0))}\n\n{line}\n{json.dumps(record(1))}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    data = open_dataset(tmp_path / name)
    assert data[0].id == "set/0" and data[2].id == "set/1"
    with pytest.raises(DataError) as caught:
        data[1]
    assert str(caught.value).startswith(f"{tmp_path / name}:3: ") and expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_gzip_file_is_told(tmp_path):
    path = write_lines(tmp_path / "set.jsonl.gz", [record(i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"set\.jsonl\.gz is not a whole gzip file"):
        open_dataset(path, "jsonl")


def test_a_bad_parquet_row_is_named_by_file_and_row(tmp_path):
    bad = record(2) | {"turns": [{"role": "bot", "text": "x", "boxes": []}]}
    data = open_dataset(write_parquet(tmp_path / "set.parquet", [record(0), record(1), bad]))
    with pytest.raises(DataError, match=r"set\.parquet, row group 1, row 0: turns\.0\.role: Input should be"):
        data[2]


def test_a_cut_parquet_file_is_told(tmp_path):
    path = write_parquet(tmp_path / "set.parquet", [record(0)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        open_dataset(path)


def test_parquet_without_its_extra_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r"^reading Parquet needs the extra `data`: pip install 'lhrs\[data\]'$"
    ):
        open_dataset(tmp_path / "set.parquet")


def test_folders_are_classes_and_splits(tmp_path, write_image):
    for place in ("train/river/b.png", "train/river/a.JPG", "train/farm land/c.tif", "test/river/d.webp"):
        write_image(f"set/{place}")
    (tmp_path / "set/train/river/notes.txt").touch()
    data = open_dataset(tmp_path / "set")
    assert [(sample.split, *sample.labels, Path(*sample.images).name) for sample in data] == [
        ("test", "river", "d.webp"),
        ("train", "farm land", "c.tif"),
        ("train", "river", "a.JPG"),
        ("train", "river", "b.png"),
    ]
    assert all(Path(*sample.images).is_file() for sample in data)
    assert list(open_dataset(tmp_path / "set", split="train")) == list(data[1:])
    assert list(open_dataset(tmp_path / "set/train", "image_folder")) == list(data[1:]), "the same samples and ids"


def test_folders_without_splits_are_classes(tmp_path, write_image):
    for place in ("forest/a.png", "river/b.png"):
        write_image(f"set/{place}")
    data = open_dataset(tmp_path / "set")
    assert [(sample.id, sample.split, sample.labels) for sample in data] == [
        ("set/forest/a.png", None, ["forest"]),
        ("set/river/b.png", None, ["river"]),
    ]
    with pytest.raises(DataError, match="has no split 'train'; it has no splits"):
        open_dataset(tmp_path / "set", split="train")


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "river").mkdir()
    with pytest.raises(DataError, match=r"contains no images\. Expected a folder with <class>/<image>"):
        open_dataset(tmp_path, "image_folder")


def ucm_row(name: str, **changes: object) -> dict:
    row = {"id": 1, "file": f"beach/{name}.jpg", "label": "beach", "split": "train", "note": None}
    row |= {"captions": ["Sea .", "Sand .", "Sea ."], "qa": [{"q": "Any sea?", "a": "yes"}]}
    return row | changes


def test_ucm_captions_are_a_sample_per_caption_and_question(tmp_path):
    write_lines(tmp_path / "index.jsonl", [ucm_row("a"), ucm_row("b", split="val", captions=[])])
    data = open_dataset(tmp_path)
    assert [(sample.id.removeprefix("ucm-captions/beach/"), sample.task, sample.turns[1].text) for sample in data] == [
        ("a/caption-0", "caption", "Sea ."),
        ("a/caption-1", "caption", "Sand ."),
        ("a/question-0", "question", "yes"),
        ("b/question-0", "question", "yes"),
    ]
    assert data[2].turns[0] == Turn(role="user", text="Any sea?")
    assert data[0].images == [str(tmp_path / "beach/a.jpg")] and data[0].labels == ["beach"]
    assert [sample.split for sample in open_dataset(tmp_path, split="val")] == ["val"]


def test_a_row_that_is_not_ucm_captions_is_named(tmp_path):
    write_lines(tmp_path / "index.jsonl", [ucm_row("a"), {"file": "x"}])
    with pytest.raises(DataError, match=r"index\.jsonl:3: not a row of UCM-captions, KeyError\('label'\)"):
        open_dataset(tmp_path)


def test_a_field_of_a_wrong_type_is_one_line(tmp_path):
    write_lines(tmp_path / "index.jsonl", [ucm_row("a", qa=[{"q": "How many?", "a": 3}], captions=[])])
    with pytest.raises(DataError, match=r"sample 0: text: Input should be a valid string \(got 3\)\.$"):
        open_dataset(tmp_path)[0]


def rsvqa(
    folder: Path, prefix: str, split: str, questions: list[dict], answers: list[dict], images: list[dict]
) -> None:
    for kind, entries in {"questions": questions, "answers": answers, "images": images}.items():
        (folder / f"{prefix}_split_{split}_{kind}.json").write_text(json.dumps({kind: entries}))


def question(number: int, image: int, answers: list[int], **changes: object) -> dict:
    entry = {"id": number, "img_id": image, "type": "count", "question": f"Q{number}?", "answers_ids": answers}
    return entry | {"active": True, "people_id": 0} | changes


def answer(number: int, text: str, active: bool = True) -> dict:
    return {"id": number, "question_id": number, "answer": text, "active": active}


@pytest.fixture
def official_rsvqa(tmp_path, write_image):
    write_image("RSVQA/Images_LR/7.tif")
    questions = [
        question(1, 7, [11, 12]),
        {"id": 2, "active": False},
        question(3, 8, [13]),
        question(4, 7, [14], type="presence"),
    ]
    answers = [answer(11, "no", active=False), answer(12, "5"), answer(13, "1"), answer(14, "yes")]
    images = [{"id": 7, "active": True}, {"id": 8, "active": False}]
    rsvqa(tmp_path / "RSVQA", "LR", "train", questions, answers, images)
    rsvqa(tmp_path / "RSVQA", "LR", "val", [question(9, 7, [9])], [answer(9, "0")], [{"id": 7, "active": True}])
    return tmp_path / "RSVQA"


def test_rsvqa_skips_what_is_not_active_and_keeps_the_type(official_rsvqa):
    data = open_dataset(official_rsvqa)
    assert [(sample.id, sample.task, sample.turns[0].text, sample.turns[1].text) for sample in data] == [
        ("rsvqa-lr/train/1", "count", "Q1?", "5"),
        ("rsvqa-lr/train/4", "presence", "Q4?", "yes"),
        ("rsvqa-lr/val/9", "count", "Q9?", "0"),
    ]
    assert data[0].images == [str(official_rsvqa / "Images_LR/7.tif")] and data[0].license == "CC-BY-4.0"
    assert [sample.split for sample in open_dataset(official_rsvqa, split="val")] == ["val"]


def test_rsvqa_tells_a_question_without_answer(official_rsvqa):
    (official_rsvqa / "LR_split_val_answers.json").write_text('{"answers": []}')
    with pytest.raises(DataError, match=r"question 9 has no active answer in LR_split_val_answers\.json"):
        open_dataset(official_rsvqa)


def test_rsvqa_tells_what_is_missing(official_rsvqa):
    (official_rsvqa / "LR_split_val_answers.json").unlink()
    with pytest.raises(DataError, match=r"LR_split_val_answers\.json cannot be read: No such file"):
        open_dataset(official_rsvqa, "rsvqa")
    with pytest.raises(DataError, match=r"Expected a folder with \{LR,USGS\}_split"):
        open_dataset(official_rsvqa / "Images_LR", "rsvqa")


COCO = {
    "licenses": [{"id": 3, "name": "CC-BY-4.0"}],
    "images": [
        {"id": 10, "file_name": "a.png", "width": 32, "height": 24, "license": 3},
        {"id": 20, "file_name": "b.png", "width": 32, "height": 24},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 2, "bbox": [1, 2, 10, 5.5], "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 5, "bbox": [0, 0, 32, 24], "iscrowd": 1},
    ],
    "categories": [{"id": 2, "name": "ship"}, {"id": 5, "name": "harbour"}],
}


def test_coco_boxes_become_xyxy_and_crowds_are_flagged(tmp_path, write_image):
    write_image("coco/train2017/a.png")
    (tmp_path / "coco/annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"coco/annotations/instances_{split}2017.json").write_text(json.dumps(COCO))
    data = open_dataset(tmp_path / "coco/annotations/instances_train2017.json")
    assert data[0].boxes == [
        Box(label="ship", xyxy=(1, 2, 11, 7.5)),
        Box(label="harbour", xyxy=(0, 0, 32, 24), crowd=True),
    ]
    assert data[1].boxes == [] and (data[0].license, data[1].license) == ("CC-BY-4.0", "unstated")
    assert data[0].images == [str(tmp_path / "coco/train2017/a.png")] and data[0].split == "train"
    assert list(open_dataset(tmp_path / "coco", "coco_boxes", split="train")) == list(data)
    with pytest.raises(
        DataError, match=r"contains 2 COCO files of boxes: instances_train2017\.json, instances_val2017\.json"
    ):
        open_dataset(tmp_path / "coco", "coco_boxes")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"annotations": [{"id": 1, "image_id": 99}]}, "annotations of image 99, which is not in the list of images"),
        ({"annotations": [{"id": 4, "image_id": 10, "category_id": 2, "bbox": [1, 2]}]}, "annotation 4 is broken"),
        (
            {"annotations": [{"id": 4, "image_id": 10, "category_id": 9, "bbox": [1, 2, 3, 4]}]},
            "annotation 4 is broken",
        ),
        (
            {"annotations": [{"id": 4, "image_id": 10, "category_id": 2, "segmentation": {"size": [1, 1]}}]},
            "annotation 4 is broken, ",
        ),
        ({"categories": [{"id": 1}]}, "is not COCO's format of boxes: KeyError('name')"),
    ],
)
def test_broken_coco_is_told(tmp_path, change, expected):
    (tmp_path / "coco.json").write_text(json.dumps(COCO | change))
    with pytest.raises(DataError) as caught:
        list(open_dataset(tmp_path / "coco.json", "coco_boxes"))
    assert expected in str(caught.value)


CAPTIONS = [
    ("a.png", 'Sea, and "sand".', "train"),
    ("a.png", "A beach.", "train"),
    ("b.png", "Woods.", "val"),
]


def caption_file(folder: Path, suffix: str) -> Path:
    rows = [{"image": image, "caption": caption, "split": split, "note": 1} for image, caption, split in CAPTIONS]
    path = folder / f"set{suffix}"
    if suffix == ".json":
        rows = [{"image": "a.png", "caption": [CAPTIONS[0][1], CAPTIONS[1][1]], "split": "train"}, rows[2]]
        path.write_text(json.dumps(rows))
    elif suffix == ".jsonl":
        write_lines(path, rows)
    else:
        comma = {".csv": ",", ".tsv": "\t"}[suffix]
        quoted = [[image, '"' + caption.replace('"', '""') + '"', split] for image, caption, split in CAPTIONS]
        lines = [comma.join(row) for row in [["image", "caption", "split"], *quoted]]
        path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv"])
def test_captions_read_the_same_from_every_table(tmp_path, suffix):
    data = open_dataset(caption_file(tmp_path, suffix))
    assert [(Path(*sample.images).name, sample.turns[1].text, sample.split) for sample in data] == CAPTIONS
    assert [sample.id for sample in data] == ["set/a.png/caption-0", "set/a.png/caption-1", "set/b.png/caption-0"]
    assert list(open_dataset(caption_file(tmp_path, suffix), split="val")) == [data[2]]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("set.csv", "file,text\na,b\n", "needs the columns image and caption, has file, text"),
        ("set.csv", "image,caption\na.png\n", "set.csv:2: image and caption must be texts"),
        ("set.json", '[{"image": "a", "text": "b"}]', "set.json: item 0: needs image and caption, has image, text"),
        ("set.json", '{"image": "a"}', "expected a list of objects"),
        ("set.json", "[", "set.json is not valid JSON"),
        ("set.jsonl", '{"image": "a", "caption": 3}', "set.jsonl:1: image and caption must be texts"),
    ],
)
def test_a_table_without_captions_says_what_it_has(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / name, "captions")
    assert expected in str(caught.value)


def test_captions_in_text_files_beside_the_images(tmp_path, write_image):
    for name, caption in {"b.png": "Woods.\n", "a.png": "Sea."}.items():
        write_image(name).with_suffix(".txt").write_text(caption)
    assert [sample.turns[1].text for sample in open_dataset(tmp_path)] == ["Sea.", "Woods."]
    write_image("c.png")
    with pytest.raises(DataError, match=r"c\.txt is missing: a folder of captions has a \.txt next to each image"):
        open_dataset(tmp_path)


def test_a_path_that_fits_no_reader_or_several_lists_them(tmp_path, write_image):
    with pytest.raises(
        ConfigError,
        match=r"cannot detect the format of .* a format of align, before_after, bigearthnet_txt, .*coco_boxes, ",
    ):
        detect_format(tmp_path)
    write_image("a.png").with_suffix(".txt").write_text("Sea.")
    write_lines(tmp_path / "set.jsonl", [record(0)])
    with pytest.raises(ConfigError, match="matches several formats: choose a format of captions, jsonl"):
        detect_format(tmp_path)
    assert len(open_dataset(tmp_path, "jsonl")) == 1


def test_every_file_of_the_folder_is_a_reader():
    files = {path.stem for path in Path(find_spec(READERS).origin).parent.glob("*.py") if path.name[0] != "_"}
    assert files == set(registry.load_components(READERS, Dataset)) == set(registry.list_components(READERS))


@pytest.mark.parametrize("name", registry.load_components(READERS, Dataset))
def test_every_reader_says_what_it_reads_and_refuses_a_missing_path(tmp_path, name):
    reader = get_reader(name)
    assert reader.__doc__ and reader.layout and reader.license and reader.homepage.startswith("http")
    assert "\n\n    Format: " in reader.__doc__, "the docstring is the data sheet"
    with pytest.raises(DataError, match=r"nowhere does not exist. Expected a"):
        reader(tmp_path / "nowhere")


def test_every_reader_is_documented():
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text()
    assert [name for name in registry.list_components(READERS) if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    ("place", "reader", "num_samples", "splits"),
    [
        ("eurosat", "image_folder", 18_000, {"train": 16_000, "test": 2_000}),
        ("vhr10", "coco_boxes", 587, {"train": 520, "test": 67}),
        ("rsvqa/RSVQA-LR", "rsvqa", 800, {"train": 300, "val": 500}),
        ("rsvqa/RSVQA-HR", "rsvqa", 700, {"train": 400, "val": 300}),
        ("ucmerced", "ucm_captions", 13_411, {"train": 12_272, "val": 1_139}),
    ],
)
def test_real_sets_are_recognised_and_read_whole(shared_data, place, reader, num_samples, splits):
    assert detect_format(shared_data / place) == reader
    data = open_dataset(shared_data / place)
    samples = list(data)
    assert len(samples) == len(data) == num_samples
    assert Counter(sample.split for sample in samples) == splits
    assert len({sample.id for sample in samples}) == num_samples
    assert all(Path(sample.images[0]).is_file() for sample in samples[:: max(1, num_samples // 200)])
    for split, count in splits.items():
        assert len(open_dataset(shared_data / place, split=split)) == count


def test_real_annotations_are_told_as_their_files_have_them(shared_data):
    hr = open_dataset(shared_data / "rsvqa/RSVQA-HR", split="train")
    assert hr[0].turns == [
        Turn(role="user", text="Is a commercial building present?"),
        Turn(role="assistant", text="no"),
    ]
    assert hr[2].turns[1].text == "6500m2" and hr[2].task == "area"
    assert Counter(sample.task for sample in hr) == {"comp": 127, "count": 108, "presence": 100, "area": 65}
    first = open_dataset(shared_data / "vhr10")[0]
    assert first.boxes[0].label == "airplane"
    assert first.boxes[0].xyxy == pytest.approx((300.88, 259.2, 300.88 + 35.28, 259.2 + 46.0))
    assert sum(len(sample.boxes) for sample in open_dataset(shared_data / "vhr10")) == 3436
    assert len({label for sample in open_dataset(shared_data / "eurosat") for label in sample.labels}) == 10
