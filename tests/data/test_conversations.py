"""LLaVA's JSON, Hugging Face's imagefolder, and texts of Windows editors."""

import json

import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset, read_text
from lhrs.errors import DataError
from lhrs.schema import Turn


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(path)
    return path


def conversation(*values, roles=("human", "gpt"), **members):
    turns = [{"from": roles[n % 2], "value": value} for n, value in enumerate(values)]
    return {"id": 7, "image": "a.png", "conversations": turns, **members}


@pytest.mark.parametrize("kind", ["json", "jsonl", "folder", "indented"])
def test_llavas_conversations(tmp_path, kind):
    image = picture(tmp_path / "images/sub/a.png")
    rows = [
        conversation("<image>\nIs there water?", "yes", image="sub\\a.png"),
        conversation("And land?", "no", "Sure?", "Yes.", image=["sub/a.png", "gone.png"], model="x"),
        {"id": "text", "conversations": [{"from": "system", "value": "Be brief."}, {"from": "user", "value": "Hi"},
                                         {"from": "assistant", "value": "Hello"}]},
    ]  # fmt: skip
    path = tmp_path / ("data.jsonl" if kind == "jsonl" else "data.json")
    text = "\r\n".join(map(json.dumps, rows)) if kind == "jsonl" else json.dumps(rows, indent=2 * (kind == "indented"))
    path.write_bytes(text.encode("utf-8-sig"))
    root = tmp_path if kind == "folder" else path
    assert detect_format(root) == "llava"
    first, second, third = data = open_dataset(root)
    assert [sample.id for sample in data] == ["data/7", "data/7#1", "data/text"]
    assert first.images == [str(image)] and second.images[0] == str(image)
    assert first.turns == [Turn(role="user", text="<image>\nIs there water?"), Turn(role="assistant", text="yes")]
    assert [turn.role for turn in third.turns] == ["system", "user", "assistant"] and third.images == []
    assert data.dropped.to_dict() == {"keys of conversations": 1}


def test_empty_conversations_are_counted(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([conversation("x", "y"), conversation(), {"conversations": []}, conversation("z", "w")]))
    data = open_dataset(path)
    assert [sample.turns[0].text for sample in data] == ["x", "z"]
    assert data.dropped.to_dict() == {"empty conversations": 2}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": 1}, "item 1: has no list `conversations`"),
        (conversation("x", "y", roles=("human", "bot")), "item 1: unknown role 'bot'"),
        (conversation("x", 3), "item 1: a turn needs `from`"),
        (conversation("x", "y", image=3), "item 1: `image` is neither a path nor a list"),
    ],
)
def test_broken_conversations_are_named(tmp_path, row, why):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([conversation("x", "y"), row]))
    with pytest.raises(DataError, match=why) as error:
        list(open_dataset(path))
    assert "\n" not in str(error.value)


def test_metadata_of_an_imagefolder(tmp_path):
    images = [picture(tmp_path / f"sub/{n}.png") for n in range(4)]
    rows = [
        {"file_name": "sub/0.png", "text": "a field"},
        {"file_name": "sub\\1.png", "label": 3, "weather": "fine"},
        {"file_name": "sub/2.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["ship"]}},
    ]
    (tmp_path / "metadata.jsonl").write_bytes("\r\n".join(map(json.dumps, rows)).encode("utf-8-sig"))
    assert detect_format(tmp_path) == detect_format(tmp_path / "metadata.jsonl") == "metadata_folder"
    first, second, third = data = open_dataset(tmp_path)
    assert [sample.images for sample in data] == [[str(image)] for image in images[:3]]
    assert first.turns[1].text == "a field" and first.task == "caption"
    assert second.labels == ["3"] and not second.turns
    assert third.boxes[0].xyxy == (1, 2, 4, 6) and third.boxes[0].label == "ship"
    assert data.dropped.to_dict() == {"columns": 1, "images without a row": 1}


def test_metadata_in_tables_of_splits(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / f"{split}/forest/a.png")
        picture(tmp_path / f"{split}/river/a.png")
        text = 'file_name,question,answer\r\nforest/a.png,"What, here?",trees\r\nriver/a.png,What?,water\r\n'
        (tmp_path / split / "metadata.csv").write_bytes(text.encode("utf-8-sig"))
    assert detect_format(tmp_path) == "metadata_folder"
    data = open_dataset(tmp_path)
    assert [(s.split, s.turns[0].text, s.turns[1].text) for s in data[:2]] == [
        ("train", "What, here?", "trees"), ("train", "What?", "water")]  # fmt: skip
    assert len(open_dataset(tmp_path, split="test")) == 2 and len({s.id for s in data}) == 4


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"text": "a field"}, "needs file_name, has text"),
        ({"file_name": "a.png", "objects": {"bbox": [[1, 2, 3]]}}, "`objects` needs `bbox` and `category`"),
        ({"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}}, "of one length"),
        ({"file_name": "a.png", "text": 3}, "a caption must be text"),
    ],
)
def test_broken_metadata_is_named(tmp_path, row, why):
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=why) as error:
        list(open_dataset(tmp_path, "metadata_folder"))
    assert "metadata.jsonl:1" in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_of_editors(tmp_path, encoding):
    image = picture(tmp_path / "a.PNG")
    image.with_suffix(".txt").write_bytes("Wälder.\r\n".encode(encoding))
    (sample,) = open_dataset(tmp_path)
    assert sample.turns[1].text == "Wälder."
    image.with_suffix(".txt").write_bytes("Wälder".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 text"):
        open_dataset(tmp_path, "captions")[0]
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_text(tmp_path / "gone.txt")


def test_lists_of_splits_in_any_encoding(tmp_path):
    for name in ("Forest_1", "River 1", "River_2"):
        picture(tmp_path / f"images/{name.split('_')[0].split()[0]}/{name}.tif")
    (tmp_path / "x-train.txt").write_bytes(b"\xef\xbb\xbfForest_1.jpg\r\nRiver 1.jpg\r\nGone_1.jpg\r\n")
    data = open_dataset(tmp_path)
    assert [(s.labels[0], s.split) for s in data] == [("Forest", "train"), ("River", "train")]
    assert data.dropped.to_dict() == {"images in no list": 1, "names of lists without an image": 1}


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_conversations_in_utf_16(tmp_path, suffix):
    picture(tmp_path / "a.png")
    rows = [conversation("<image>\nIs there water?", "yes"), conversation("Snow in Malmö\u2028?", "no")]
    text = json.dumps(rows) if suffix == "json" else "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(text.encode("utf-16"))
    assert detect_format(path) == "llava"
    assert [sample.turns[1].text for sample in open_dataset(path)] == ["yes", "no"]


def test_metadata_in_parquet(tmp_path):
    import pyarrow
    from pyarrow import parquet

    image = picture(tmp_path / "sub/a.png")
    rows = [{"file_name": "sub/a.png", "text": "A lake.", "objects": [{"bbox": [1, 2, 3, 4], "category": "lake"}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    assert detect_format(tmp_path) == detect_format(tmp_path / "metadata.parquet") == "metadata_folder"
    (sample,) = open_dataset(tmp_path)
    assert sample.images == [str(image)] and sample.turns[1].text == "A lake."
    assert [(box.label, box.xyxy) for box in sample.boxes] == [("lake", (1, 2, 4, 6))]


def test_commas_without_quotes_do_not_cut_a_caption(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a lake, a road\n")
    with pytest.raises(DataError, match=r"metadata\.csv:2: more values than columns"):
        open_dataset(tmp_path)


def test_boxes_of_metadata_are_finite(tmp_path):
    picture(tmp_path / "a.png")
    row = {"file_name": "a.png", "objects": {"bbox": [[float("nan"), 1, 2, 3]], "category": ["x"]}}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"metadata\.jsonl:1: .*not finite"):
        open_dataset(tmp_path)[0]
