"""`lhrs data list` and `lhrs data get`, with a server that has the layout of the hub and of Zenodo."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.data.miniature_sets import CHAT, FEATURES, GIVEN, write_given
from tests.data.sets_fixtures import hub, served  # noqa: F401  # fixtures
from typer.testing import CliRunner

from lhrs.cli.data import app
from lhrs.data import training_sets
from lhrs.data.dataset import detect_format, open_dataset
from lhrs.data.download import data_home
from lhrs.data.training_sets import get, get_set, list_sets, locate
from lhrs.errors import ConfigError, DataError

RECIPES = Path(__file__).parents[2] / "recipes"
LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}
NAMES = [row.name for row in list_sets()]


def open_set(name, path):
    return open_dataset(path, get_set(name).format)


@pytest.mark.parametrize("row", list_sets(), ids=lambda row: row.name)
def test_a_row_of_the_table_is_whole(row):
    assert row.parts or row.manual, "nothing to get"
    for name in row.stages:
        text = (RECIPES / f"{name}.yaml").read_text()
        assert name.startswith("downstream/") or row.name in text
    for step in (*row.parts, *row.manual):
        if step.checksum is not None:
            kind, _, digits = step.checksum.partition(":")
            assert re.fullmatch(f"[0-9a-f]{{{LENGTHS[kind]}}}", digits)
    assert row.homepage.startswith("http") and all(part.source.folder for part in row.parts)
    places = [row.folder or row.name, row.root, *(p.into for p in row.parts), *(s.into for s in row.manual)]
    assert not [place for place in places if Path(place).is_absolute() or ".." in Path(place).parts]


def test_recipes_name_sets_of_the_table():
    for path in sorted(RECIPES.glob("lhrs-bot*-*.yaml")):
        sets = [row["name"] for row in yaml.safe_load(path.read_text())["data"]]
        assert set(sets) == {row.name for row in list_sets() if path.stem in row.stages}


def test_the_list_says_where_a_set_is_from_and_what_is_to_be_done_by_hand(monkeypatch, tmp_path):
    monkeypatch.setenv("LHRS_DATA", str(tmp_path))
    (tmp_path / "ucm").mkdir()
    out = CliRunner().invoke(app, ["list"]).output
    assert all(f"{name}: " in out for name in NAMES)
    assert "md5:5b7ec" not in out and "(downloaded)" in out and out.count("(downloaded)") == 1
    one = CliRunner().invoke(app, ["list", "--stage", "lhrs-bot-1-align"]).output
    assert one.startswith("lhrs-align: ") and "by hand" in one and "Map Tiles API" in one and "MIT" in one
    rows = [json.loads(line) for line in CliRunner().invoke(app, ["list", "--json"]).output.splitlines()]
    assert [row["name"] for row in rows] == NAMES and sum(row["downloaded"] for row in rows) == 1
    wrong = CliRunner().invoke(app, ["list", "--stage", "x"])
    assert isinstance(wrong.exception, ConfigError) and "lhrs-bot-2-instruct" in str(wrong.exception)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("potsdam", "million-aid")])
def test_a_set_is_downloaded_once_and_opens_with_its_images(hub, tmp_path, name):  # noqa: F811
    row = get_set(name)
    given = write_given(row.folder or name, tmp_path)
    root = get(name, given)
    samples = open_set(name, root)
    assert len(samples) == 1 and samples[0].turns[1].role == "assistant"
    assert all(Path(image).is_file() for sample in samples for image in sample.images)
    assert row.format in ("lhrs_align_recap", detect_format(root))
    assert not [path.name for path in row.path.rglob("*") if path.suffix in (".zip", ".tar", ".gz", ".part", ".etag")]
    assert [path.name for path in data_home().iterdir()] == [row.folder or name]
    hub.asked.clear()
    assert get(name) == root and not hub.asked


def test_the_content_of_sets_arrives_in_samples(hub, tmp_path):  # noqa: F811
    align = get("lhrs-align", write_given("lhrs-align", tmp_path))
    plain, recap = open_dataset(align), open_dataset(align, "lhrs_align_recap")
    assert plain[0].turns[1].text == FEATURES["cap"] and recap[0].turns[1].text == FEATURES["caption"]
    assert plain.dropped.to_dict() == {"captions without their image": 1}
    assert get("lhrs-align-recap") == align  # the same download
    turns = open_set("rsitmd", get("rsitmd", write_given("rsitmd", tmp_path)))[0].turns
    assert [turn.text for turn in turns] == [CHAT["conv"][0]["Question"], CHAT["conv"][0]["Answer"]]
    box = open_set("rsvg", get("rsvg", write_given("rsvg", tmp_path)))[0].turns[1]
    assert box.text == "<box>" and box.boxes[0].xyxy == (10, 20, 30, 40) and box.boxes[0].label == "the ship"
    questions = open_set("rsvqa-hr", get("rsvqa-hr"))
    assert len(questions[0].turns) == 6 and questions.dropped.to_dict() == {
        "rows without a conversation": 1, "<image> after the first question": 1}  # fmt: skip


def test_an_archive_in_pieces_is_unpacked_as_one(hub):  # noqa: F811
    root = get("million-aid")
    assert len(list(root.rglob("*.jpg"))) == 12 and [path.name for path in root.parent.iterdir()] == ["test"]


def test_a_stopped_download_continues_and_keeps_what_is_there(hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr("lhrs.data.fetch._TRIES", 1)
    hub.breaks["UCMerced_LandUse.zip"] = [500, 0]
    with pytest.raises(DataError, match=r"UCMerced_LandUse\.zip broke off: .* What arrived is kept"):
        get("ucm")
    assert not (data_home() / "ucm").exists() and (data_home() / ".ucm.part/Stage2/UCM.json").is_file()
    hub.asked.clear()
    assert len(open_set("ucm", get("ucm"))) == 1
    files = [(path.rpartition("/")[2], asked) for path, asked in hub.asked if not path.startswith("/api/")]
    assert files == [("UCMerced_LandUse.zip", "bytes=500-")]


@pytest.mark.parametrize("name", ["ucm", "llava-20k", "rsvqa-lr"])
def test_a_wrong_checksum_is_one_line_and_nothing_is_unpacked(hub, monkeypatch, name):  # noqa: F811
    row = get_set(name)
    if name == "rsvqa-lr":
        monkeypatch.setattr(type(hub), "md5", lambda self, place: "0" * 32)
    else:
        bad = [part.model_copy(update={"checksum": "md5:" + "0" * 32}) for part in row.parts[1:]]
        changed = row.model_copy(update={"parts": [row.parts[0], *bad]})
        monkeypatch.setattr(training_sets, "list_sets", lambda: (changed,))
    with pytest.raises(DataError, match=r"has the checksum md5:\w{32}, but md5:0{32} is published; it was discarded"):
        get(name)
    assert not row.path.exists()
    assert not [
        path.name
        for path in data_home().rglob("*")
        if path.suffix in (".zip", ".tif", ".jpg", ".part") and path.is_file()
    ]


def test_files_that_the_hub_lacks_and_a_repository_that_is_gone_are_one_line(hub, monkeypatch, tmp_path):  # noqa: F811
    gone = tmp_path / "UCM.json"
    shutil.move(hub.folder / "datasets/PumpkinCat/LHRS_Data/Stage2/UCM.json", gone)
    try:
        with pytest.raises(DataError, match=r"PumpkinCat/LHRS_Data on the hub has no file Stage2/UCM\.json"):
            get("ucm")
    finally:
        shutil.move(gone, hub.folder / "datasets/PumpkinCat/LHRS_Data/Stage2/UCM.json")
    row = get_set("ucm")
    changed = row.model_copy(update={"parts": [row.parts[0].model_copy(update={"hub": "no/body"})]})
    monkeypatch.setattr(training_sets, "list_sets", lambda: (changed,))
    with pytest.raises(DataError, match="ucm could not be downloaded"):
        get("ucm")
    assert not list(data_home().iterdir())


def test_a_manual_step_is_told_exactly_and_what_is_downloaded_stays(hub, tmp_path):  # noqa: F811
    with pytest.raises(
        DataError, match=r"rsitmd needs 1 manual step: \(1\) Download RSITMD from https://drive\.google"
    ):
        get("rsitmd")
    hub.asked.clear()
    with pytest.raises(DataError, match=r"absent\.zip does not exist"):
        get("lrv-instruct", [tmp_path / "absent.zip"])
    assert get("rsitmd", write_given("rsitmd", tmp_path)).is_file()
    assert not [path for path, _ in hub.asked if "/resolve/" in path]
    first, second = write_given("lrv-instruct", tmp_path)
    with pytest.raises(DataError, match=r"needs 1 manual step: \(1\) Download the photos"):
        get("lrv-instruct", [first])
    assert len(open_set("lrv-instruct", get("lrv-instruct", [second]))) == 1


def test_a_given_file_is_verified_and_stays(hub, tmp_path, monkeypatch):  # noqa: F811
    row = get_set("rsvg")
    step = row.manual[0].model_copy(update={"checksum": "md5:" + "0" * 32})
    changed = row.model_copy(update={"manual": [step]})
    monkeypatch.setattr(training_sets, "list_sets", lambda: (changed,))
    given = write_given("rsvg", tmp_path)
    with pytest.raises(DataError, match=r"RSVG\.zip has the checksum"):
        get("rsvg", given)
    assert given[0].is_file() and not row.path.exists()


def test_run_files_find_downloaded_sets_by_name(hub, tmp_path, monkeypatch):  # noqa: F811
    with pytest.raises(DataError, match="1 training set is not downloaded: lhrs data get million-aid"):
        locate("million-aid")
    assert locate(get("million-aid")) == get("million-aid") == locate("million-aid")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "million-aid").mkdir()
    assert locate("million-aid") == Path("million-aid")
    with pytest.raises(DataError, match=r"2 training sets are not downloaded: lhrs data get ucm rsicd"):
        training_sets.locate_sets(["ucm", "million-aid", "rsicd"])
    with pytest.raises(ConfigError, match=r"no training set 'rsitdm'\. Did you mean 'rsitmd'"):
        get_set("rsitdm")


def test_the_command_gets_several_sets_and_prints_paths(hub, tmp_path):  # noqa: F811
    done = CliRunner().invoke(app, ["get", "ucm", "rsvqa-lr"])
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "home/ucm/Stage2/UCM.json") in done.output and "public domain" in done.output
    given = write_given("rsicd", tmp_path)
    words = [word for path in given for word in ("--from", str(path))]
    assert CliRunner().invoke(app, ["get", "rsicd", *words]).exit_code == 0
    partly = CliRunner().invoke(app, ["get", "nwpu-captions", "rsitmd"])
    assert str(partly.exception) == "1 of 2 sets are not complete." and (tmp_path / "home/nwpu-captions").is_dir()
    both = CliRunner().invoke(app, ["get", "rsitmd", "rsicd", *words])
    assert isinstance(both.exception, ConfigError) and "one set at a time" in str(both.exception)


def test_every_manual_step_has_a_miniature():
    assert {row.folder or row.name for row in list_sets() if row.manual} - GIVEN.keys() == {"potsdam"}


def test_a_broken_row_is_one_line_with_its_place(tmp_path):
    (tmp_path / "X_Image").mkdir()
    path = tmp_path / "X.json"
    for rows, message in (
        ([{"name": "a.png", "conv": ["x"]}], r"X\.json: item 0: a pair needs the texts `Question` and `Answer`: x"),
        ([{"name": "a.png", "conv": [{"Question": "q"}]}], r"X\.json: item 0: a pair needs the texts"),
        ([{"conv": CHAT["conv"]}], r"X\.json: item 0: names no image"),
    ):
        path.write_text(json.dumps(rows))
        with pytest.raises(DataError, match=message):
            open_dataset(path, "lhrs_instruct")[0]
    path.write_text("{}")
    with pytest.raises(DataError, match="expected a list, or an object with a list `data`"):
        open_dataset(path, "lhrs_instruct")


def test_a_cut_file_of_features_is_one_line(tmp_path):
    text = json.dumps({"data": [FEATURES, FEATURES]})
    (tmp_path / "features_01.json").write_text(text[:-40])
    with pytest.raises(DataError, match=r"features_01\.json: item 1 is broken or cut off"):
        open_dataset(tmp_path, "lhrs_align")
    (tmp_path / "features_01.json").write_text(json.dumps({"data": [{"name": "x", "cap": "y"}]}))
    with pytest.raises(DataError, match=r"features_01\.json: item 0: has no `name`, or no `info\.location`"):
        open_dataset(tmp_path, "lhrs_align")
