"""Class names become words, and class folders conversations with many wordings."""

import json
from collections import Counter, defaultdict

import pytest
from PIL import Image

from lhrs.inference.model_family import get_family
from lhrs.inference.tasks import ask_task, caption_task, classify_task, count_task, ground_task
from lhrs.instruct import description_tasks
from lhrs.instruct.build import InstructionConfig, build_instructions, make_samples
from lhrs.instruct.class_names import describe_class, label_words
from lhrs.instruct.collect import collect_annotations, vocabulary_of

UC_MERCED = {
    "agricultural": "agricultural", "airplane": "airplane", "baseballdiamond": "baseball diamond", "beach": "beach",
    "buildings": "buildings", "chaparral": "chaparral", "denseresidential": "dense residential", "forest": "forest",
    "freeway": "freeway", "golfcourse": "golf course", "harbor": "harbor", "intersection": "intersection",
    "mediumresidential": "medium residential", "mobilehomepark": "mobile home park", "overpass": "overpass",
    "parkinglot": "parking lot", "river": "river", "runway": "runway", "sparseresidential": "sparse residential",
    "storagetanks": "storage tanks", "tenniscourt": "tennis court",
}  # fmt: skip


@pytest.mark.parametrize(
    ("label", "words"),
    [
        *UC_MERCED.items(),
        ("AnnualCrop", "annual crop"),
        ("HerbaceousVegetation", "herbaceous vegetation"),
        ("SeaLake", "sea lake"),
        ("ground_track_field", "ground track field"),
        ("thermal-power-station", "thermal power station"),
        ("farmland", "farmland"),
        ("grassland", "grassland"),
        ("xylotheque", "xylotheque"),
        ("carport", "carport"),
    ],
)
def test_class_names_become_words(label, words):
    assert label_words(label) == words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("tennis court", "a tennis court"),
        ("airport", "an airport"),
        ("dense residential", "a dense residential area"),
        ("industrial", "an industrial area"),
        ("storage tanks", "storage tanks"),
        ("overpass", "an overpass"),
        ("farmland", "farmland"),
        ("herbaceous vegetation", "herbaceous vegetation"),
    ],
)
def test_class_names_fit_into_sentences(words, text):
    assert describe_class(words) == text


@pytest.fixture
def folders(tmp_path):
    for label in ("tenniscourt", "AnnualCrop", "denseresidential"):
        for n in range(60):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (n, 0, 0)).save(tmp_path / "data" / label / f"{n}.png")
    return tmp_path / "data"


def test_class_folders_become_conversations_of_many_wordings(folders, tmp_path):
    out = tmp_path / "out.jsonl"
    build_instructions([folders], out, config=InstructionConfig(multiple_choice_fraction=0, conversation_fraction=0))
    questions, answers = defaultdict(set), defaultdict(Counter)
    for line in out.read_text().splitlines():
        row = json.loads(line)
        question, answer = (turn["text"] for turn in row["turns"])
        assert "tenniscourt" not in question + answer and "AnnualCrop" not in question + answer
        questions[row["task"]].add(question)
        answers[row["task"]][answer] += 1
    assert set(questions) == {"caption", "scene", "scene options", "scene check"}
    assert len(questions["caption"]) >= 8 and len(questions["scene"]) >= 12 and len(questions["scene check"]) >= 15
    assert set(answers["scene"]) == set(answers["scene options"]) == {
        "tennis court", "annual crop", "dense residential",
    }  # fmt: skip
    assert {"An aerial image of a tennis court.", "The image shows a dense residential area."} <= set(
        answers["caption"]
    )


def test_listed_options_contain_the_answer_in_any_place(folders):
    images = collect_annotations(folders)
    places = Counter()
    for sample in make_samples(
        images, vocabulary_of(images), InstructionConfig(tasks=("scene-options",), conversation_fraction=0)
    ):
        question, answer = (turn.text for turn in sample.turns)
        options = [name for name in ("tennis court", "annual crop", "dense residential") if name in question]
        assert answer in options and len(options) >= 2
        places[sorted(options, key=question.index).index(answer)] += 1
    assert min(places[0], places[1]) > 40


def test_the_family_asks_in_words_of_the_questions():
    family = get_family("instruct")
    assert caption_task(family).prompt in description_tasks._CAPTION
    assert classify_task(family).prompt in description_tasks._SCENE
    listed = classify_task(family, ["TennisCourt", "river"]).prompt
    assert listed == description_tasks._SCENE_OPTIONS[0].format("tennis court, river")
    assert ask_task(family, "what kind of area is this?", ["urban", "rural"]).prompt.endswith("Options: urban, rural.")
    assert count_task(family, "ships").prompt == "How many ships are there?"
    assert ground_task(family, "the ship").prompt == "Find the ship."
