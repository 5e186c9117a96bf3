"""Broken data: one line that names file and line, or left out and counted."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lhrs.cli.data import app
from lhrs.data.dataset import open_dataset
from lhrs.data.good_samples import open_samples
from lhrs.errors import DataError

MINIATURES = Path(__file__).parent / "miniatures"
SKYSCRIPT = "skyscript/dataframe/SkyScript_train_top30pct.csv"
CHATEARTHNET = "chatearthnet/json_files/ChatEarthNet_caps_35_train.json"


def message(text: str = "<image>What is it?", **keys: object) -> dict:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "A port."}]
    return {"messages": turns, "images": ["a.png"], **keys}


BROKEN = {
    "not JSON": (b"{", r"not valid JSON"),
    "encoding": (json.dumps(message()).encode().replace(b"port", b"p\xf6rt"), r"not valid JSON \('utf-8' codec"),
    "role": ({"messages": [{"role": "bot", "content": "x"}]}, r"unknown role 'bot'; expected one of human, user"),
    "no messages": ({"messages": []}, "has no list `messages`"),
    "content": ({"messages": [{"role": "user", "content": 3}]}, "`content` must be a text or a list of parts, found 3"),
    "part": ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "is neither text nor image"),
    "placeholders": (message("<image><image>x"), r"2 <image> for 1 images"),
    "answer": ({"messages": [{"role": "assistant", "content": "<image>"}]}, "1 <image> outside the user's turns"),
    "embedded": (message(images=["data:image/png;base64,xx"]), "an image is embedded"),
    "boxes": (message(objects={"ref": [], "bbox": [[1, 2, 3, 4]]}), "1 boxes of `objects.bbox` without a <bbox>"),
    "corners": (message("<image><bbox>", objects={"bbox": [[1, 2]]}), "must have four numbers"),
    "marks": (message("<image><bbox>", objects={"ref": ["x"], "bbox": []}), "more <bbox> than `objects.bbox`"),
    "size": (message("<image>[0.1, 0.2, 0.3, 0.4]", images=["gone.png"]), r"gone\.png does not exist"),
}


@pytest.fixture
def write(tmp_path, write_image):
    """Writes rows, with a good one before and after."""

    def write(*rows: bytes | dict) -> Path:
        write_image("a.png")
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in (message(), *rows, message())]
        (tmp_path / "chat.jsonl").write_bytes(b"\n".join(lines))
        return tmp_path / "chat.jsonl"

    return write


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_message_is_named_by_file_and_line(write, name):
    row, why = BROKEN[name]
    data = open_dataset(write(row))
    assert data[0] == data[2].model_copy(update={"id": data[0].id})
    with pytest.raises(DataError, match=rf"chat\.jsonl:2: .*{why}") as error:
        data[1]
    assert "\n" not in str(error.value)


def test_broken_samples_are_left_out_and_counted(write):
    rows = [row for row, _ in BROKEN.values()]
    data = open_samples(write(*rows), skip_bad=len(rows))
    assert [sample.turns[1].text for sample in data] == ["A port."] * 2
    assert data.dropped.to_dict() == {"broken samples": len(rows)}
    assert "chat.jsonl:2: not valid JSON" in data.dropped.summary()
    with pytest.raises(
        DataError, match=rf"more than {len(rows) - 1} broken samples, which --skip-bad allows; the last"
    ):
        open_samples(write(*rows), skip_bad=len(rows) - 1)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (message(images=["gone.png"]), r"gone\.png does not exist"),
        (message("<image><bbox>", objects={"bbox": [[40, 1, 50, 9]]}), r"box \[40.0, 1.0, 50.0, 9.0\] is reversed, em"),
    ],
)
def test_missing_images_and_boxes_outside_are_left_out(write, row, why):
    data = open_samples(write(row), skip_bad=1)
    assert len(data) == 2 and re.search(rf"chat\.jsonl:2: .*{why}", data.dropped.summary())


def test_the_command_skips_as_many_as_it_is_told(write):
    path = write({"messages": [{"role": "bot", "content": "x"}]}, b"{")
    shown = CliRunner().invoke(app, ["show", str(path), "--skip-bad", "2"], catch_exceptions=False)
    assert "samples    2 with 1 images" in shown.output and "left out 2: 2 broken samples" in shown.output
    with pytest.raises(DataError, match="more than 1 broken samples"):
        CliRunner().invoke(app, ["show", str(path), "--skip-bad", "1"], catch_exceptions=False)


def test_lines_of_a_reader_that_reads_all_at_once_are_skipped(tmp_path, write_image):
    write_image("a.png")
    good = json.dumps({"image": "a.png", "conversations": [{"from": "human", "value": "x"}]})
    (tmp_path / "chat.jsonl").write_text(f"{good}\n{{\n{good}\n")
    with pytest.raises(DataError, match=r"chat\.jsonl:2: not valid JSON"):
        open_dataset(tmp_path / "chat.jsonl")
    data = open_samples(tmp_path / "chat.jsonl", skip_bad=1)
    assert len(data) == 2 and data.dropped.to_dict() == {"broken samples": 1}


def spoil(source: str, target: Path, old: str, new: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    text = (MINIATURES / source).read_text()
    assert old in text
    target.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("source", "old", "new", "why"),
    [
        ("geochat/GeoChat_Instruct.json", '"human"', '"bot"', "item 0: unknown role 'bot'"),
        ("vrsbench/VRSBench_train.json", "<image>", "<image><image>", "item 0: 2 <image> for 1 images"),
        ("vrsbench/VRSBench_train.json", "P0003_0002.png", "", "item 0: 1 <image> for 0 images"),
        ("lhrs_instruct/RSITMD.json", '"Answer": "An airport."', '"Answer": 3', "item 0: a pair needs the texts"),
        ("rsicd/dataset_rsicd.json", '"raw": "many planes ."', '"raw": 3', "an image needs `filename`"),
        ("nwpu_captions/dataset_nwpu.json", '"airplane_001.jpg"', "null", "an image needs `filename`"),
        (SKYSCRIPT, "a pier,a pier", "a pier", "csv:3: 2 values for 3 columns"),
        (SKYSCRIPT, "a hedge", '"a hedge', "csv:2: not a row of a table"),
        (CHATEARTHNET, '"This', "3, \"x\": \"This", "item 0: needs `image`"),
        ("levir_cc/LevirCCcaptions.json", '"raw": " two', '"said": " two', "image 0: a pair needs `filename`"),
    ],
)  # fmt: skip
def test_broken_published_files_are_named(tmp_path, source, old, new, why):
    path = tmp_path / Path(source).parent.name / Path(source).name
    spoil(source, path, old, new)
    with pytest.raises(DataError, match=why) as error:
        list(open_dataset(path))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_an_ambiguous_image_is_refused(tmp_path, write_image):
    for folder in ("train", "val"):
        write_image(f"{folder}/a.png")
    (tmp_path / "chat.jsonl").write_text(json.dumps(message()))
    with pytest.raises(DataError, match=r"chat\.jsonl:1: image a\.png may be .*train/a\.png or .*val/a\.png"):
        open_dataset(tmp_path / "chat.jsonl")[0]


def test_broken_shards(tmp_path):
    whole = (MINIATURES / "rsteller/Patches0000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:3000])
    with pytest.raises(DataError, match=r"cut\.tar .*(cut off|unexpected end)"):
        open_dataset(tmp_path / "cut.tar")
    (tmp_path / "x").mkdir()
    with tarfile.open(tmp_path / "x/a.tar.gz", "w:gz") as archive:
        archive.add(MINIATURES / "rsteller", "x")
    shutil.copy(tmp_path / "x/a.tar.gz", tmp_path / "x/a.tar")
    with pytest.raises(DataError, match=r"a\.tar cannot be read as an uncompressed tar file"):
        open_dataset(tmp_path / "x/a.tar", "webdataset")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.tar").write_bytes(whole.replace(b'"annotations": [{', b'"annotations": [!', 1))
    with pytest.raises(DataError, match=r"a\.tar: 607\.json: not valid JSON"):
        list(open_dataset(tmp_path / "bad"))
    data = open_samples(tmp_path / "bad", skip_bad=1)
    assert [sample.id for sample in data] == ["bad/a/608/caption-0", "bad/a/608/caption-1"]


def test_samples_without_image_or_text_are_counted(tmp_path):
    with tarfile.open(MINIATURES / "rsteller/Patches0000.tar") as source, tarfile.open(tmp_path / "a.tar", "w") as out:
        for name in ("607.jpg", "607.txt", "608.jpg"):
            member = source.getmember(name)
            out.addfile(member, source.extractfile(member))
        member = source.getmember("608.txt")
        content = source.extractfile(member)
        member.name = "609.txt"
        out.addfile(member, content)
    data = open_dataset(tmp_path / "a.tar")
    assert [sample.turns[1].text for sample in data] == ["A road crosses patch 607.\nPatch 607 shows a road."]
    assert data.dropped.to_dict() == {"samples without an image": 1, "samples without a text": 1}
