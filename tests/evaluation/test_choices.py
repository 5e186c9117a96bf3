"""CHOICE, GEOBench-VLM, XLRS-Bench-lite and VHM's honesty: their own files, and answers that know nothing."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.answers import letters, picture, scored, write

from lhrs.errors import DataError
from lhrs.evaluation.benchmark import find_benchmark
from lhrs.evaluation.benchmarks._options import letter_index, split_question, without_letter
from lhrs.evaluation.external_predictions import join_predictions
from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import build_prompts
from lhrs.inference.model_family import ModelFamily
from lhrs.metrics.scoring import score_per_sample, score_records


def test_options_in_the_text_of_a_question():
    text = "Where is A. Smith's ship?\nA.Top Left\nB.It is not in the picture\nC.Top\nSelect one."
    assert split_question(text) == (
        "Where is A. Smith's ship?",
        ("Top Left", "It is not in the picture", "Top"),
    )
    assert split_question("Which?\n(A) one\n(B) two\n") == ("Which?", ("one", "two"))
    with pytest.raises(ValueError, match="no options"):
        split_question("Which?\nB.one\nC.two")
    assert [without_letter(t) for t in ("(A) Apron", "A. Apron", "Apron", "A Apron")] == ["Apron"] * 3 + ["A Apron"]
    assert letter_index("B", 2) == letter_index("(b)", 2) == letter_index("B. two", 2) == 1
    for text in ("C", "", "Both", "1"):
        with pytest.raises(ValueError, match="of 2 options"):
            letter_index(text, 2)


def choice(folder):
    leaf = "perception/single_instance_identification/hallucination_detection"
    for n, (place, task) in enumerate([(leaf, "hallucination_detection"),
                                       ("reasoning/attribute_reasoning/time_property", "time_property")]):  # fmt: skip
        rows = [{"id": f"{n}{k}-ab", "image_path": f"{place}/images/{k}.png", "answer": "ABCD"[k],
                 "question": f"Where is thing {n}{k}?\nA.Right\nB.Bottom Left\nC.Top\nD.It is not in the picture"}
                for k in range(4)]  # fmt: skip
        write(folder / place / f"{task}.json", rows)
    corners = [[0.2, 0.5], [0.5, 0.2], [0.8, 0.5], [0.5, 0.8]]
    place = "perception/single_instance_identification/visual_grounding"
    question = "Please output the coordinates of the storage-tank in the image in the format (x1, y1, x2, y2). Do not."
    row = {"id": "x", "image_path": f"{place}/images/4.png", "question": question, "answer": corners}
    write(folder / place / "visual_grounding.json", [row])
    picture(folder / place / "images/4.png", (200, 100))
    return folder


def test_choice(tmp_path):
    benchmark = find_benchmark("choice")(choice(tmp_path))
    items = benchmark.items()
    assert len(items) == 8 and items[0].question == "Where is thing 00?" and items[3].answer == 3
    assert items[0].options == ("Right", "Bottom Left", "Top", "It is not in the picture")
    assert scored(benchmark, letters)["all"]["by_group"] == {
        "single_instance_identification": 1,
        "attribute_reasoning": 1,
    }
    for text in ("", "e", "The image shows it", "A, B, C, D", "It is not", "D.Right"):
        assert scored(benchmark, lambda item, text=text: text)["score"] == 0, text
    assert scored(benchmark, lambda item: "D")["score"] == 0.25
    assert sum(map(len, benchmark.groups.values())) == 21
    (item,) = find_benchmark("choice-grounding")(tmp_path).items()
    assert item.question == "the storage-tank" and item.answer == pytest.approx((40, 20, 160, 80))
    path = tmp_path / "reasoning/attribute_reasoning/time_property/time_property.json"
    write(path, [{"id": "x", "image_path": "a", "question": "Which?\nA.one\nB.two", "answer": "C"}])
    with pytest.raises(DataError, match=r"time_property\.json: entry 0 .*answer 'C' of 2 options"):
        benchmark.items()


def geobench(folder):
    options = ["frigate", "destroyer", "yacht", "carrier", "tanker"]
    row = {"ground_truth": "tanker", "ground_truth_option": "E", "options_list": options, "task": "Ship Type",
           "cls_description": "", "options": "A. frigate B. destroyer C. yacht D. carrier E. tanker"}  # fmt: skip
    rows = [{**row, "question_id": n, "image_path": f"images/single_{n}.png", "image_name": f"single_{n}.png",
             "prompts": [f"What ship is {n}?", f"Which is {n}?", f"Say what {n} is."]} for n in range(4)]  # fmt: skip
    write(folder / "Single/qa.json", rows)
    picture(folder / "Single/images/single_0.png")
    series = {
        **row,
        "question_id": 0,
        "image_path": [f"Temporal/images/{n}.png" for n in range(3)],
        "prompts": ["What?"],
    }
    write(folder / "Temporal/qa.json", [{**series, "cls_description": "Damage is told by roofs."}])
    return folder


def test_geobench_vlm(tmp_path):
    benchmark = find_benchmark("geobench-vlm")(geobench(tmp_path))
    items = benchmark.items()
    assert len(items) == 12 and items[0].id == "0/0" and items[4].question == "Which is 1?" and items[0].answer == 4
    assert items[0].images == (str(tmp_path / "Single/images/single_0.png"),)
    assert items[0].question_group == items[2].question_group != items[3].question_group
    (item,) = find_benchmark("geobench-vlm")(tmp_path, "temporal").items()
    assert [i.rpartition("/")[2] for i in item.images] == ["0.png", "2.png"]
    assert item.question == "The first image was taken before, the second after. Damage is told by roofs.\nWhat?"
    with pytest.raises(DataError, match="has the splits single, temporal"):
        find_benchmark("geobench-vlm")(tmp_path, "test").items()
    # A wording that is always understood, and two that never are: four questions, all alike.
    found = scored(benchmark, lambda item: "E" if item.id.endswith("/0") else "Both")
    assert found["n"] == 4 and found["score"] == pytest.approx(1 / 3)
    assert found["interval"] == pytest.approx([1 / 3, 1 / 3]) and found["parse_failure_rate"] == pytest.approx(2 / 3)


def xlrs(folder, answers=("B", "AC", "D")):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    several = "Land use classification/Overall Land use classification"
    kinds = ("Counting/Overall counting", several, "Complex reasoning/Route planning")
    rows = []
    for n, (answer, kind) in enumerate(zip(answers, kinds, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 12, 3), min(n, 1) * 90, np.uint8)).save(buffer, "PNG")
        rows.append({"index": n, "question": f"What is {n}? ", "answer": answer, "category": kind, "l2-category": "x/y",
                     "multi-choice options": ["(A) 1", "(B) 2", "(C) 3", "(D) 4"],
                     "image": [{"bytes": buffer.getvalue(), "path": f"{n}.png"}]})  # fmt: skip
    folder.mkdir(exist_ok=True)
    for part, some in enumerate((rows[:2], rows[2:])):
        parquet.write_table(arrow.Table.from_pylist(some), folder / f"train-{part:05d}-of-00002.parquet")
    return folder


def test_xlrs_lite(tmp_path):
    benchmark = find_benchmark("xlrs-lite")(xlrs(tmp_path / "x"))
    items = benchmark.items()
    assert [item.answer for item in items] == [1, (0, 2), 3] and items[0].options == ("1", "2", "3", "4")
    assert items[1].type == "Overall Land use classification" and items[1].question == "What is 1?"
    assert items[1].images == items[2].images and len(list((tmp_path / "x/images").iterdir())) == 2  # stored once
    assert Image.open(items[0].images[0]).size == (12, 8) and benchmark.items() == items
    asked = build_prompts(items, find_metric("choice"), ModelFamily(), "constrained")
    assert "One or several options are right" in asked[1].prompt and "several" not in asked[0].prompt
    assert asked[0].choices == tuple("ABCD") and len(asked[1].choices) == 15 and "A, C" in asked[1].choices
    perfect = scored(benchmark, letters)
    assert perfect["score"] == 1 and perfect["baselines"]["chance"] == pytest.approx((0.25 + 0.25 + 1 / 15) / 3)
    assert perfect["all"]["by_group"] == {"Complex reasoning": 1, "Counting": 1, "Land use classification": 1}
    assert scored(benchmark, letters, "circular")["score"] == 1
    for text in ("", "bad", "Answer", "B. parking lot", "all", "A. 2"):
        assert scored(benchmark, lambda item, text=text: text)["score"] == 0, text
    for text, right in (("A", 0), ("A, B, C", 0), ("C and A", 1), ("The answers are A, C.", 1), ("(A)(C)", 1)):
        rows = [find_metric("choice").to_record(asked[1].item, {"prediction": text, "confidence": None})]
        assert score_per_sample(rows, "choice")[0] == right, text


def test_broken_xlrs_files_are_one_line(tmp_path):
    with pytest.raises(DataError, match="answer 'E' of 4 options"):
        find_benchmark("xlrs-lite")(xlrs(tmp_path / "x", ("B", "A", "E"))).items()
    path = tmp_path / "x/train-00000-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        find_benchmark("xlrs-lite")(tmp_path / "x").items()


def vhm(folder):
    def talk(question, answer):
        return [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]

    options = "\nA. top\nB. bottom\nC. There is no plane in the image\nPlease select the correct answer."
    files = {
        "presence_mo_dota": [("Is there a ship?", "No"), ("Is there a plane?", "yes")],
        "color_dota-test_fair1m-val_open": [("What color is the car?", "white"), ("And the bus?", "red,blue")],
        "abspos_dota-test_mc": [(f"Where is the ship?{options}", "A"), (f"Where is the ship?{options}", "B")],
        "color_false_dota-test_random_open": [("What color is the plane?", "There is no plane.")] * 3,
        "abspos_false_dota-test_adversarial_mc": [(f"Where is the plane?{options}", "C")] * 2,
        "relpos_false_dota-test_popula_mc": [("Where is it? A. left B. right C. no such object", "C")],
    }
    for name, talks in files.items():
        write(folder / f"{name}.json", [
            {"image": f"{n}.png", "image_path": name, "size": [9, 9], "conversations": talk(*one)}
            for n, one in enumerate(talks)
        ])  # fmt: skip
    return folder


def test_vhm_honesty(tmp_path):
    vhm(tmp_path / "datasets_eval")
    benchmark = find_benchmark("vhm-honesty")(tmp_path)
    items = benchmark.items()
    assert len(items) == 12 and len({item.id for item in items}) == 12 and items == type(benchmark)(
        tmp_path / "datasets_eval").items()  # fmt: skip
    by_id = {item.id: item for item in items}
    position = by_id["abspos_false_dota-test_adversarial_mc/0"]
    assert position.question == "Where is the plane?" and position.answer == 2 and not position.answerable
    assert position.options[2] == "There is no plane in the image"
    inline = by_id["relpos_false_dota-test_popula_mc/0"]
    assert inline.question == "Where is it?" and inline.options == ("left", "right", "no such object")
    assert by_id["presence_mo_dota/0"].answerable and by_id["presence_mo_dota/0"].images[0].endswith("dota/0.png")
    prompts = {one.item.id: one.prompt for one in build_prompts(items, find_metric("honesty"), ModelFamily(), "free")}
    assert prompts["color_false_dota-test_random_open/0"] == "What color is the plane?"  # free to deny it
    assert prompts[position.id].startswith("Where is the plane?\nA. top\nB. bottom\nC. There")

    def knows(item):
        return letters(item) if item.options else str(item.answer)

    found = scored(benchmark, knows)
    assert found["score"] == 1 and found["all"]["denies_false"] == 1 and found["all"]["denies_true"] == 0
    assert found["all"]["by_group"] == {"true premise": 1, "false premise": 1}
    assert found["baselines"]["majority"] == 0.5  # to deny everything
    given = [{"id": item.id, "prediction": knows(item)} for item in items]  # `lhrs score --benchmark`
    records = join_predictions(items, given, find_metric("honesty"), "p.jsonl")
    assert score_records(records, "honesty")["denies_false"] == 1
    deny = scored(benchmark, lambda item: "There is no such thing.")
    assert deny["all"]["by_group"] == {"true premise": 0, "false premise": 1}
    for text in ("", "yes no", "It could be anything", "white plane", "There is no plane, but it is white"):
        assert scored(benchmark, lambda item, text=text: text)["score"] == 0, text
    assert scored(benchmark, lambda item: "No")["all"]["by_group"]["true premise"] == pytest.approx(1 / 6)


def test_vhm_honesty_needs_false_premises(tmp_path):
    vhm(tmp_path)
    for path in tmp_path.glob("*_false_*"):
        path.unlink()
    with pytest.raises(DataError, match="no questions with a false premise"):
        find_benchmark("vhm-honesty")(tmp_path).items()
