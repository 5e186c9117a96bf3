"""OmniEarth, LRS-VQA, EarthVQA, RSIEval, FIT-RSRC, XLRS-Bench, LEVIR-CC: official layouts, scores by hand."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.answers import letters, picture, scored, write

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.benchmark import find_benchmark
from lhrs.evaluation.evaluate import _spread_questions, evaluate
from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import build_prompts
from lhrs.evaluation.report import compare, score_answers
from lhrs.evaluation.score import score
from lhrs.inference.model_family import ModelFamily


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def omniearth(folder):
    """Two questions of the form in the authors' README, and an open one."""
    options = "A. race track   B. baseball field   C. amusement park   D. golf course   E. airport   F. stadium"
    prompts = ["What type of scene is this?", "Identify the category.", "What is it?", "Which kind?", "What purpose?"]
    row = {"image_path": "Perception_A1.1_001.jpg", "ground_truth": "golf_course", "ground_truth_option": "D",
           "options": options, "prompts": prompts, "question_id": 1}  # fmt: skip
    place = folder / "Perception/A1.1-Scene Classification"
    write(place / "scene classification.json", [row, {**row, "question_id": 2, "ground_truth_option": "A"}])
    picture(place / "images/Perception_A1.1_001.jpg")
    write(folder / "Perception/A1.4-Image Caption/image caption.json", [{"image_path": "a.jpg", "answer": "A town."}])
    place = folder / "Robustness/C2.1-Hallucination Detection"
    write(place / "hallucination detection.json", [{**row, "image_path": ["1.jpg", "2.jpg"], "prompts": prompts[:1]}])
    return folder


def test_omniearth_counts_a_question_when_all_wordings_are_right(tmp_path):
    benchmark = find_benchmark("omniearth")(omniearth(tmp_path))
    items = benchmark.items()
    assert [item.id for item in items[:2]] == ["scene classification/1/0", "scene classification/1/1"]
    assert len(items) == 11 and items[0].answer == 3 and items[0].options[4:] == ("airport", "stadium")
    assert items[0].images == (str(tmp_path / "Perception/A1.1-Scene Classification/images/Perception_A1.1_001.jpg"),)
    assert [image.rpartition("/")[2] for image in items[10].images] == ["1.jpg", "2.jpg"]
    assert benchmark.dropped.to_dict() == {"tasks without a file": 25, "open questions": 1}
    assert scored(benchmark, letters)["score"] == 1
    # Question 2 is missed in one wording of five, the others are right: 2 of 3 questions, 10 of 11 wordings.
    found = scored(benchmark, lambda item: "D" if item.id == "scene classification/2/4" else letters(item))
    assert found["score"] == pytest.approx(2 / 3) and found["n"] == 3 and found["metric"] == "circular"
    assert found["all"]["accuracy"] == pytest.approx(10 / 11)
    assert found["all"]["by_group"] == {"Perception": 0.5, "Robustness": 1}
    # Always D: question 1 and the last.
    assert scored(benchmark, lambda item: "D")["score"] == pytest.approx(2 / 3)


def test_the_blind_baseline_follows_the_same_rule(tmp_path):
    benchmark, metric = find_benchmark("omniearth")(omniearth(tmp_path)), find_metric("choice")
    asked = build_prompts(benchmark.items(), metric, ModelFamily(), "free")
    right = [{"prediction": letters(one.item), "confidence": None} for one in asked]
    blind = [dict(row) for row in right]
    blind[0]["prediction"] = blind[5]["prediction"] = "F"  # one wording of questions 1 and 2
    result = score_answers(benchmark, metric, asked, {"normal": right, "blind": blind}, "free")
    assert result["score"] == 1 and result["baselines"]["blind"] == pytest.approx(1 / 3)
    assert compare(metric, asked, right, blind, all_wordings=True)["difference"] == pytest.approx(2 / 3)
    assert compare(metric, asked, right, blind)["difference"] == pytest.approx(2 / 15)  # a fifth of two questions of 3


def test_a_limit_keeps_all_wordings_of_a_question(tmp_path):
    items = find_benchmark("omniearth")(omniearth(tmp_path)).items()
    assert [item.question_group for item in _spread_questions(items, 1)] == ["scene classification/2"] * 5
    assert _spread_questions(items, None) == items


def test_lrs_vqa(tmp_path):
    rows = [
        {"question_id": "FAIR_1", "image": "LRS_VQA/image/15565.tif", "text": "How many planes?", "ground_truth": "3",
         "category": "count"},
        {"question_id": "FAIR_2", "image": "LRS_VQA/image/15565.tif", "text": "What shape is it?",
         "ground_truth": "rectangle", "category": "shape"},
        {"question_id": "FAIR_3", "image": "LRS_VQA/image/15565.tif", "text": "Background?", "ground_truth": "river",
         "category": "shape"},
        {"question_id": "STAR_1", "image": "LRS_VQA/image/9043.tif", "text": "Urban?", "ground_truth": "Yes",
         "category": "rural or urban"},
    ]  # fmt: skip
    write_lines(tmp_path / "LRS_VQA/LRS_VQA_merged.jsonl", rows)
    picture(tmp_path / "LRS_VQA/image/15565.tif")
    for root in (tmp_path, tmp_path / "LRS_VQA"):
        items = find_benchmark("lrs-vqa")(root).items()
        assert len(items) == 4 and items[0].images == (str(tmp_path / "LRS_VQA/image/15565.tif"),)
    benchmark = find_benchmark("lrs-vqa")(tmp_path, "FAIR")
    # Right: the count. Wrong: a synonym, and words around the answer. OA 1/3, AA (1 + 0) / 2.
    answers = {"FAIR_1": "three", "FAIR_2": "oblong", "FAIR_3": "a river bank"}
    found = scored(benchmark, lambda item: answers[item.id])
    assert found["score"] == pytest.approx(1 / 3) and found["all"]["mean_of_types"] == 0.5
    with pytest.raises(DataError, match=r"has no questions of 'DOTA'; it has those of FAIR, STAR"):
        find_benchmark("lrs-vqa")(tmp_path, "DOTA").items()
    write_lines(tmp_path / "LRS_VQA/LRS_VQA_merged.jsonl", [rows[0], {"question_id": 1, "image": "a"}])
    with pytest.raises(DataError, match=r"LRS_VQA_merged\.jsonl:2: not LRS-VQA's: it has no 'text'"):
        find_benchmark("lrs-vqa")(tmp_path).items()


def test_earthvqa(tmp_path):
    def ask(kind, question, answer):
        return {"Type": kind, "Question": question, "Answer": answer}

    rows = [
        ask("Basic Judging", "Are there any bridges in this scene?", "No"),
        ask("Basic Counting", "How many intersections are in this scene?", 2),
        ask("Reasoning-based Counting", "What is the area of roads?", "0%-10%"),
        ask("Comprehensive Analysis", "What are the needs for the renovation of villages?", "There are no needs"),
    ]
    write(tmp_path / "Val_QA.json", {"2522.png": rows, "2523.png": rows[:1]})
    write(tmp_path / "Test_QA.json", {"4.png": [{"Type": "Basic Judging", "Question": "Any roads in this scene?"}]})
    picture(tmp_path / "Val/images_png/2522.png")
    picture(tmp_path / "Val/Urban/images_png/2523.png")
    benchmark = find_benchmark("earthvqa")(tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["2522.png/0", "2522.png/1", "2522.png/2", "2522.png/3", "2523.png/0"]
    assert items[1].answer == "2" and items[4].images == (str(tmp_path / "Val/Urban/images_png/2523.png"),)
    answers = ["no", "4", "0%-10%", "There are needs", "Yes"]
    found = scored(benchmark, lambda item: answers[items.index(item)])
    assert found["score"] == pytest.approx(2 / 5) and found["all"]["count_mae"] == 2
    assert found["all"]["by_group"] == {"basic": pytest.approx(1 / 3), "reasoning": 1, "analysis": 0}
    for text in ("10%-20%", "0%", "10%"):
        assert scored(benchmark, lambda item, text=text: text)["score"] == 0
    with pytest.raises(DataError, match=r"Test_QA\.json has no answers\. left out 1"):
        find_benchmark("earthvqa")(tmp_path, "test").items()
    with pytest.raises(DataError, match="has the splits Train, Val, Test"):
        find_benchmark("earthvqa")(tmp_path, "dev").items()
    write(tmp_path / "Val_QA.json", {"1.png": ["Is it?"]})
    with pytest.raises(DataError, match=r"Val_QA\.json: question 0 of 1\.png is not EarthVQA's"):
        benchmark.items()


def test_rsieval(tmp_path):
    def ask(kind, question, answer):
        return {"question": question, "answer": answer, "type": kind}

    pairs = [
        ask("presence", "Does this image contains trees?", "Yes."),
        ask("quantity", "How many planes are there in this image?", "There are seven planes in the image."),
        ask("quantity", "How many small vehicles in the image?", "more than 100"),
        ask("ab_position", "Where are the planes in the image?", "The upper part of the image."),
    ]
    write(tmp_path / "annotations.json", {"annotations": [
        {"filename": "P1384_0054.png", "caption": "A road runs east to west.", "qa_pairs": pairs},
        {"filename": "P0003_0003.png", "caption": "Seven yellow buses are parked.", "qa_pairs": []},
    ]})  # fmt: skip
    picture(tmp_path / "images/P1384_0054.png")
    benchmark = find_benchmark("rsieval-vqa")(tmp_path)
    items = benchmark.items()
    assert [item.answer for item in items] == ["Yes.", "7", "more than 100", "The upper part of the image."]
    assert items[0].images == (str(tmp_path / "images/P1384_0054.png"),)
    answers = ["Yes, several.", "There are 7.", "100", "the upper part of the image"]
    assert scored(benchmark, lambda item: answers[items.index(item)])["all"]["by_type"] == {
        "presence": 1, "quantity": 0.5, "ab_position": 1,
    }  # fmt: skip
    captions = find_benchmark("rsieval-caption")(tmp_path)
    assert [item.answer for item in captions.items()] == [("A road runs east to west.",),
                                                          ("Seven yellow buses are parked.",)]  # fmt: skip
    perfect = scored(captions, lambda item: item.answer[0])
    assert perfect["all"]["bleu4"] == pytest.approx(1) and perfect["score"] == pytest.approx(10)
    write(tmp_path / "annotations.json", {"annotations": [{"filename": "a.png"}]})
    with pytest.raises(DataError, match=r"annotations\.json: entry 0 is not RSIEval's \(KeyError\('caption'\)\)"):
        captions.items()


def fit_rsrc(folder):
    """Question 7 in four rotations, and question 8 in one, written in one line."""
    texts, rows = ["parked at", "docked at", "over", "No such relation"], []
    for shift in range(4):
        shown = texts[shift:] + texts[:shift]
        lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", shown, strict=True))
        rows.append({"question_id": 7, "image": "P0001_0001.png", "category": "Relationship",
                     "text": f"<image>\nWhat is the relation of the ship and the dock?\n{lines}",
                     "ground_truth": "ABCD"[shown.index("docked at")]})  # fmt: skip
    rows.append({"question_id": 7, "image": "P0001_0001.png", "category": "exist", "ground_truth": "B",
                 "text": "Is there a plane? A. Yes B. No"})  # fmt: skip
    write_lines(folder / "FIT-RSRC/FIT-RSRC_Questions_2k.jsonl", rows)
    picture(folder / "FIT-RSRC/Images/P0001_0001.png")
    return folder


def test_fit_rsrc(tmp_path):
    benchmark = find_benchmark("fit-rsrc")(fit_rsrc(tmp_path))
    items = benchmark.items()
    assert [item.answer for item in items] == [1, 0, 3, 2, 1] and items[0].question.endswith("and the dock?")
    assert items[4].question == "Is there a plane?" and items[4].options == ("Yes", "No")
    assert [item.id for item in items] == [*(f"7/relationship/{n}" for n in range(4)), "7/exist/0"]
    assert items[0].images == (str(tmp_path / "FIT-RSRC/Images/P0001_0001.png"),)
    assert scored(benchmark, letters)["score"] == 1
    # B is right in one rotation of four and for the other question: one of two questions.
    found = scored(benchmark, lambda item: "B")
    assert found["score"] == 0.5 and found["n"] == 2 and found["all"]["accuracy"] == 0.4
    predictions = [
        {"id": item.id, "prediction": letters(item) if item.id != "7/relationship/2" else "A"} for item in items
    ]
    given = score(predictions, benchmark=f"fit-rsrc={tmp_path}")
    assert given["circular"] == 0.5 and given["accuracy"] == 0.8 and given["questions"] == 2
    path = tmp_path / "FIT-RSRC/FIT-RSRC_Questions_2k.jsonl"
    path.write_text(path.read_text().replace('"ground_truth": "B"', '"ground_truth": "E"'))
    with pytest.raises(DataError, match=r"FIT-RSRC_Questions_2k\.jsonl:1: not FIT-RSRC's .*answer 'E' of 4 options"):
        benchmark.items()


def png(value, size=(40, 20)):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_arrow(path, rows):
    """Write rows as `Dataset.save_to_disk` of `datasets` does."""
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


def write_parquet(path, rows):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("stored_as", ["arrow", "parquet"])
def test_xlrs_grounding(tmp_path, stored_as):
    row = {"question_id": "vg_1", "image": {"bytes": png(9), "path": "1.png"}, "image_width": 40, "image_height": 20,
           "question": "Give the box of the object. Description: the red truck", "answer": "[0.25, 0.5, 0.75, 1.0]",
           "bbox": [0.25, 0.5, 0.75, 1.0], "category": "vehicle"}  # fmt: skip
    if stored_as == "arrow":
        write_arrow(tmp_path / "test/data-00000-of-00001.arrow", [row])
        write_arrow(tmp_path / "train/data-00000-of-00001.arrow", [{**row, "question_id": "vg_2"}])
    else:
        write_parquet(tmp_path / "data/test-00000-of-00001.parquet", [row])
        write_parquet(tmp_path / "data/train-00000-of-00001.parquet", [{**row, "question_id": "vg_2"}])
    benchmark = find_benchmark("xlrs-grounding")(tmp_path)
    (item,) = benchmark.items()
    assert item.question == "the red truck" and item.answer == (10, 10, 30, 20) and item.type == "vehicle"
    assert Image.open(item.images[0]).size == (40, 20) and benchmark.full_name == "xlrs-grounding"
    assert [item.id for item in find_benchmark("xlrs-grounding")(tmp_path, "train").items()] == ["vg_2"]
    metric = find_metric("grounding")
    asked = build_prompts([item], metric, ModelFamily(), "free")
    for box, right in (((10, 10, 30, 20), 1), ((10, 10, 20, 20), 1), ((10, 10, 19, 20), 0)):  # IoU 1, 0.5, 0.45
        rows = [{"prediction": "", "boxes": [box], "confidence": None}]
        assert score_answers(benchmark, metric, asked, {"normal": rows}, "free")["score"] == right
    write_arrow(tmp_path / "test/data-00000-of-00001.arrow", [{**row, "bbox": [0.5, 0.5, 0.25, 1.0]}])
    with pytest.raises(DataError, match=r"row \d is not xlrs-grounding's .*is no box of fractions"):
        find_benchmark("xlrs-grounding")(tmp_path).items()


def test_xlrs_caption_and_the_full_choices(tmp_path):
    row = {"question": "You are an assistant. Describe. ", "image": [{"bytes": png(1), "path": None}]}
    write_parquet(tmp_path / "a/train-00000-of-00001.parquet", [{**row, "answer": "A port with six ships."}])
    write_parquet(tmp_path / "b/train-00000-of-00001.parquet", [{**row, "caption": ["A port.", "A harbor."]}])
    (item,) = find_benchmark("xlrs-caption")(tmp_path / "a").items()
    assert item.question == "You are an assistant. Describe." and item.answer == ("A port with six ships.",)
    assert item.images[0].endswith(".png")
    assert find_benchmark("xlrs-caption")(tmp_path / "b").items()[0].answer == ("A port.", "A harbor.")
    kinds = ["Counting/Overall counting"] * 3 + ["Object properties/Object color"]
    rows = [{**row, "question": f"{n}?", "answer": "A", "category": kind, "l2-category": "x",
             "multi-choice options": ["(A) 1", "(B) 2", "(C) 3", "(D) 4"]} for n, kind in enumerate(kinds)]  # fmt: skip
    write_parquet(tmp_path / "c/test-00000-of-00001.parquet", rows)
    benchmark = find_benchmark("xlrs")(tmp_path / "c")
    found = scored(benchmark, lambda item: "A" if item.type == "Object color" else "B")
    assert found["score"] == 0.25 and found["all"]["mean_of_types"] == 0.5  # over questions, over tasks
    broken = tmp_path / "c/test-00000-of-00001.parquet"
    broken.rename(tmp_path / "c/test.arrow")
    with pytest.raises(DataError, match=r"test\.arrow is not a whole Arrow file"):
        benchmark.items()


def levir_cc(folder):
    def entry(name, split, flag, texts):
        sentences = [
            {"tokens": text.split(), "raw": f" {text} .", "imgid": 0, "sentid": n} for n, text in enumerate(texts)
        ]
        return {
            "filepath": split,
            "filename": name,
            "split": split,
            "changeflag": flag,
            "sentences": sentences,
            "imgid": 0,
        }

    same = ["there is no difference", "the two scenes seem identical", "no change has occurred"]
    new = ["a house appears in the forest", "a villa was built near trees", "some trees are replaced by a house"]
    write(folder / "LevirCCcaptions.json", {"dataset": "LEVIR-CC", "images": [
        entry("test_000001.png", "test", 1, new), entry("test_000002.png", "test", 0, same),
        entry("train_000001.png", "train", 1, new[:1]),
    ]})  # fmt: skip
    for date in "AB":
        for n in (1, 2):
            picture(folder / f"images/test/{date}/test_00000{n}.png")
    return folder


def test_levir_cc(tmp_path):
    benchmark = find_benchmark("levir-cc")(levir_cc(tmp_path))
    items = benchmark.items_with_images()
    assert len(items) == 2 and not len(benchmark.dropped) and items[0].type == "changed"
    assert [image.removeprefix(f"{tmp_path}/") for image in items[0].images] == [
        "images/test/A/test_000001.png", "images/test/B/test_000001.png",
    ]  # fmt: skip
    assert items[1].answer[0] == "there is no difference ."
    asked = build_prompts(items, find_metric("caption"), ModelFamily(), "free")
    assert asked[0].prompt.startswith("The first image was taken before, the second after.")
    # One reference word by word: BLEU-4 of the corpus is 1 where the other answer is one too.
    assert scored(benchmark, lambda item: item.answer[0])["all"]["bleu4"] == pytest.approx(1)
    # Always "there is no difference": no word of the changed pair, so its CIDEr is 0.
    found = scored(benchmark, lambda item: "there is no difference")
    assert found["all"]["by_group"]["changed"] == 0 and found["all"]["by_group"]["unchanged"] > 0
    assert found["score"] == pytest.approx(found["all"]["by_group"]["unchanged"] / 2)
    # BLEU-1: 4 of 8 words match and the lengths are 4 and 4 against the closest 6 and 4: exp(1 - 10 / 8) * 4 / 8.
    assert found["all"]["bleu1"] == pytest.approx(math.exp(1 - 10 / 8) / 2, rel=1e-6)
    assert [item.id for item in find_benchmark("levir-cc")(tmp_path, "train").items()] == ["train_000001.png"]
    with pytest.raises(DataError, match="has no captions of 'dev'; it has test, train"):
        find_benchmark("levir-cc")(tmp_path, "dev").items()
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "LevirCCcaptions.json").rename(tmp_path / "unpacked/LevirCCcaptions.json")
    assert benchmark.items()[0].images[0] == str(tmp_path / "unpacked/images/test/A/test_000001.png")


def karpathy(folder, name, images):
    def entry(filename, split, texts):
        sentences = [{"raw": f"{text} .", "tokens": text.split()} for text in texts]
        return {"filename": filename, "split": split, "sentences": sentences}

    rows = [
        entry("port_1.tif", "test", ["ships in a port", "a port"]), entry("park_2.tif", "test", ["a park", "trees"]),
        entry("bare_3.tif", "train", ["bare land"]), entry("none_4.tif", "test", []),
    ]  # fmt: skip
    write(folder / name, {"images": rows})
    for filename in ("port_1.tif", "park_2.tif"):
        picture(folder / images / filename)
    return folder


@pytest.mark.parametrize(
    ("name", "file", "images"),
    [("rsicd-retrieval", "dataset_rsicd.json", "RSICD_images"), ("rsitmd-retrieval", "dataset_RSITMD.json", "images")],
)
def test_retrieval(tmp_path, name, file, images):
    benchmark = find_benchmark(name)(karpathy(tmp_path, file, images))
    items = benchmark.items_with_images()
    assert [(item.id, item.type) for item in items] == [
        ("port_1.tif", "image to text"), ("park_2.tif", "image to text"), ("port_1.tif#0", "text to image"),
        ("port_1.tif#1", "text to image"), ("park_2.tif#0", "text to image"), ("park_2.tif#1", "text to image"),
    ]  # fmt: skip
    assert items[0].answer == ("port_1.tif#0", "port_1.tif#1") and items[2].question == "ships in a port ."
    assert items[0].images == (str(tmp_path / images / "port_1.tif"),) and len(benchmark.dropped) == 1
    rankings = {
        "port_1.tif": ["park_2.tif#0", "port_1.tif#1"], "park_2.tif": ["park_2.tif#1"],
        "port_1.tif#0": ["port_1.tif"], "port_1.tif#1": ["park_2.tif", "port_1.tif"],
        "park_2.tif#0": ["port_1.tif"],
    }  # fmt: skip
    predictions = [{"id": key, "prediction": ranking} for key, ranking in rankings.items()]
    found = score(predictions, benchmark=f"{name}={tmp_path}")
    # Image to text: rank 2 and 1. Text to image: 1, 2, never, and one query without a ranking.
    assert [found[f"image to text R@{k}"] for k in (1, 5, 10)] == [0.5, 1, 1]
    assert [found[f"text to image R@{k}"] for k in (1, 5, 10)] == [0.25, 0.5, 0.5]
    assert found["mean_recall"] == pytest.approx((0.5 + 1 + 1 + 0.25 + 0.5 + 0.5) / 6)
    assert found["n"] == 6 and found["parse_failure_rate"] == pytest.approx(1 / 6)
    with pytest.raises(ConfigError, match=rf"{name} ranks candidates.*lhrs score --benchmark {name}=PATH"):
        evaluate([benchmark], output_dir=tmp_path / "out")
    with pytest.raises(DataError, match="`prediction` is a list of ids, best first, not 'port'"):
        score([{"id": "port_1.tif", "prediction": "port"}], benchmark=f"{name}={tmp_path}")
