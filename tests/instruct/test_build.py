"""`lhrs instruct build`: what is asked can be answered from the annotations, by an independent computation."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tests.training.tiny import SRC

from lhrs.align.tags import plural
from lhrs.data.dataset import open_dataset
from lhrs.data.writers import write_samples
from lhrs.errors import ConfigError
from lhrs.instruct.annotations import AnnotatedObject, ImageAnnotations, Vocabulary
from lhrs.instruct.build import TASKS, InstructionConfig, make_samples
from lhrs.instruct.collect import collect_annotations
from lhrs.instruct.spatial_tasks import _DIRECTIONS, expressions, grid_position

WORDS = Vocabulary(("airplane", "ship", "storage tank", "tennis court"))


def image(rng, number, complete=True):
    objects = []
    for label in rng.choice(["airplane", "ship", "storage tank"], rng.integers(0, 7)):
        x, y = rng.uniform(0, 470, 2)
        w, h = rng.uniform(10, 42, 2)
        objects.append(AnnotatedObject(str(label), (x, y, x + w, y + h)))
    exhaustive = frozenset(WORDS.labels) if complete else frozenset()
    return ImageAnnotations(
        f"i{number}", ("a.png",), 512, 512, "test", "MIT", objects=tuple(objects), exhaustive=exhaustive
    )


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return {annotations.id: annotations for annotations in (image(rng, n) for n in range(400))}


@pytest.fixture(scope="module")
def samples(images):
    return list(
        make_samples(
            images.values(),
            WORDS,
            InstructionConfig(max_per_image=10, multiple_choice_fraction=0.3, conversation_fraction=0.0),
        )
    )


def of(samples, task):
    found = [s for s in samples if s.task == task]
    assert len(found) > 15, task
    return found


def known(images, sample):
    return images[sample.id.partition("#")[0]]


def test_counts_and_presence_are_true(images, samples):
    for sample in of(samples, "count"):
        label = next(n for n in WORDS.labels if plural(n) in sample.turns[0].text)
        assert int(sample.turns[1].text) == sum(t.label == label for t in known(images, sample).objects)
    answers = Counter()
    for sample in of(samples, "presence"):
        label = next(n for n in WORDS.labels if n in sample.turns[0].text)
        answers[sample.turns[1].text] += 1
        assert (sample.turns[1].text == "yes") == any(t.label == label for t in known(images, sample).objects)
    assert 0.35 < answers["yes"] / answers.total() < 0.65


def test_false_premises_are_false(images, samples):
    for sample in of(samples, "false premise"):
        label = next(n for n in WORDS.labels if n in sample.turns[0].text)
        assert not known(images, sample).of(label)
        assert sample.turns[1].text == f"There is no {label} in this image."


def test_boxes_are_all_there_are(images, samples):
    for sample in of(samples, "detection"):
        label = next(n for n in WORDS.labels if plural(n) in sample.turns[0].text)
        assert {b.xyxy for b in sample.turns[1].boxes} == {t.box for t in known(images, sample).of(label)}


def test_expressions_fit_one_thing_only(images):
    total = 0
    for one in images.values():
        for expression, obj in expressions(one):
            total += 1
            same = one.of(obj.label)
            assert obj in same
            rest = [t for t in same if t is not obj]
            if "largest" in expression:
                assert all(t.area < obj.area / 1.4 for t in rest)
            elif "smallest" in expression:
                assert all(t.area > obj.area * 1.4 for t in rest)
            elif "leftmost" in expression:
                assert all(t.center[0] > obj.center[0] + 20 for t in rest)
            elif "bottommost" in expression:
                assert all(t.center[1] < obj.center[1] - 20 for t in rest)
            elif "nearest the top right corner" in expression:
                assert all(math.dist(t.center, (512, 0)) > math.dist(obj.center, (512, 0)) + 20 for t in rest)
            elif expression == f"the {obj.label}":
                assert not rest
    assert total > 500


def test_relative_positions_point_the_right_way(images, samples):
    angles = {name: 45 * n for n, name in enumerate(_DIRECTIONS)}
    for sample in of(samples, "relative position"):
        one = known(images, sample)
        answer = sample.turns[1].text
        direction = next(d for d in sorted(_DIRECTIONS, key=len, reverse=True) if answer.startswith(f"{d} the"))
        other = answer.removeprefix(f"{direction} the ")
        (there,) = one.of(other)
        (here,) = [t for label in WORDS.labels if label != other and f" {label} " in sample.turns[0].text
                   for t in one.of(label)]  # fmt: skip
        seen = math.degrees(math.atan2(here.center[1] - there.center[1], here.center[0] - there.center[0]))
        assert abs((seen - angles[direction] + 180) % 360 - 180) <= 16.01


def test_locations(images, samples):
    for sample in of(samples, "location"):
        one = known(images, sample)
        (obj,) = one.of(next(n for n in WORDS.labels if f"the {n}?" in sample.turns[0].text))
        assert grid_position(one, obj) == sample.turns[1].text
    assert grid_position(ImageAnnotations("a", (), 90, 90, "t", "MIT"), AnnotatedObject("x", (40, 0, 50, 10))) == "top"
    assert (
        grid_position(ImageAnnotations("a", (), 90, 90, "t", "MIT"), AnnotatedObject("x", (40, 40, 50, 50))) == "center"
    )


def test_choices_have_one_right_answer_and_letters_are_balanced(images, samples):
    letters = {2: Counter(), 4: Counter()}
    for sample in (s for s in samples if s.task.endswith("(choice)")):
        options = [line[3:] for line in sample.turns[0].text.splitlines() if line[1:3] == ". "]
        assert len(set(options)) == len(options) >= 2
        letter = sample.turns[1].text
        if len(options) in letters:
            letters[len(options)][letter] += 1
        if sample.task.startswith("count"):
            label = next(n for n in WORDS.labels if plural(n) in sample.turns[0].text)
            assert options["ABCD".index(letter)] == str(len(known(images, sample).of(label)))
    for num, counts in letters.items():
        assert counts.total() > 50 and len(counts) == num and max(counts.values()) - min(counts.values()) <= 1


def test_an_open_world_is_not_asked_about_what_is_absent():
    rng = np.random.default_rng(0)
    made = list(
        make_samples(
            [image(rng, n, complete=False) for n in range(200)],
            WORDS,
            InstructionConfig(max_per_image=10, conversation_fraction=0),
        )
    )
    assert len(made) > 300
    for sample in made:
        assert sample.task.split(" (")[0] not in ("presence", "false premise")
        assert not sample.turns[1].text.startswith("0")


def test_the_same_seed_gives_the_same_samples(images):
    def make(seed, some):
        return [
            s.model_dump_json()
            for s in make_samples(some, WORDS, InstructionConfig(seed=seed, multiple_choice_fraction=0))
        ]

    everything = list(images.values())
    assert make(0, everything) == make(0, everything) != make(1, everything)
    assert make(0, everything)[: len(make(0, everything[:9]))] == make(0, everything[:9])


def test_unknown_tasks_are_one_line(images):
    with pytest.raises(ConfigError, match="there is no task 'colour'; known: detail"):
        list(make_samples(images.values(), WORDS, InstructionConfig(tasks=["colour"])))


def test_every_task_says_what_it_is():
    assert all((maker.__doc__ or "").strip() for maker in TASKS.values())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_what_is_written_is_read(tmp_path, samples, suffix):
    (tmp_path / "images").mkdir()
    moved = [s.model_copy(update={"images": [str(tmp_path / "images/a.png")]}) for s in samples[:50]]
    write_samples(moved, tmp_path / f"out/data{suffix}")
    assert list(open_dataset(tmp_path / f"out/data{suffix}")) == moved


def written(folder, *rows):
    """Write samples about `a.png` or another picture as JSON lines, and return what is known of the pictures."""
    Image.new("RGB", (200, 200)).save(folder / "a.png")
    Image.new("RGB", (200, 200)).save(folder / "b.png")
    about = {"images": ["a.png"], "source": "x", "license": "CC0-1.0"}
    lines = [json.dumps({"id": f"s{n}", **about, **row}) for n, row in enumerate(rows)]
    (folder / "d.jsonl").write_text("\n".join(lines))
    return collect_annotations(folder / "d.jsonl")


def test_samples_of_one_image_are_known_together(tmp_path):
    planes = [{"label": "plane", "xyxy": [10 + 60 * n, 10, 40 + 60 * n, 40]} for n in range(3)]
    rows = [{"boxes": [box]} for box in (*planes, {"label": "ship", "xyxy": [10, 100, 60, 150]}, planes[0])]
    crowd = {"boxes": [{"label": "car", "xyxy": [0, 0, 9, 9], "crowd": True}]}
    (image,) = written(tmp_path, *rows, crowd)
    assert image.labels() == {"plane": 3, "ship": 1} and image.truncated == {"car"}
    words, tasks = Vocabulary(("plane", "ship")), ["count", "presence", "false-premise"]
    for seed in range(20):
        for sample in make_samples(
            [image],
            words,
            InstructionConfig(tasks=tasks, multiple_choice_fraction=0, conversation_fraction=0, seed=seed),
        ):
            question, answer = (turn.text for turn in sample.turns)
            assert sample.task in ("count", "presence"), question
            assert answer == ("yes" if sample.task == "presence" else "3" if "planes" in question else "1"), question


def test_none_of_an_images_classes_is_wrong(tmp_path):
    one, two = written(
        tmp_path, {"labels": ["road", "forest"]}, {"labels": ["Lake"], "images": ["b.png"]}, {"labels": ["beach"]}
    )
    assert (one.scene, one.negative_scenes) == ("road", ("lake",))
    assert (two.scene, two.negative_scenes) == ("lake", ("beach", "forest", "road"))
    for seed in range(30):
        for sample in make_samples(
            [one],
            Vocabulary(),
            InstructionConfig(tasks=["scene", "scene-check"], multiple_choice_fraction=1, seed=seed),
        ):
            assert "forest" not in sample.turns[0].text and "beach" not in sample.turns[0].text


def test_questions_that_came_with_an_image_stay_what_they_were(tmp_path):
    said = [
        {"role": "system", "text": "Be brief."},
        {"role": "user", "text": "What is in this box?", "boxes": [{"label": "plane", "xyxy": [1, 2, 3, 4]}]},
        {"role": "assistant", "text": "a plane"},
        {"role": "user", "text": "Where is the ship?"},
        {"role": "assistant", "text": "the ship", "boxes": [{"label": "ship", "xyxy": [5, 6, 7, 8]}]},
    ]
    samples = list(make_samples(written(tmp_path, {"turns": said}), Vocabulary()))
    assert [turn.model_dump(exclude_defaults=True, mode="json") for s in samples for turn in s.turns] == said[1:]


def test_real_data_of_every_kind(shared_data, tmp_path):
    from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset

    train = shared_data / "banepa/train"
    build_caption_dataset(
        CaptionDatasetConfig(osm=train / "banepa_buildings.osm.pbf", out=tmp_path / "ds", imagery=(train / "oam",))
    )
    wanted = {
        tmp_path / "ds": {"reasoning", "detection", "referring expression"},
        shared_data / "vhr10": {"false premise", "presence", "count", "region"},
        shared_data / "dubai_seg": {"detection", "referring expression"},
        shared_data / "rsvqa/RSVQA-LR": {"comp", "presence"},
    }
    for path, tasks in wanted.items():
        found = collect_annotations(path)
        words = Vocabulary(tuple(sorted({t.label for k in found for t in k.objects})))
        made = list(make_samples(found, words, InstructionConfig(conversation_fraction=0, multiple_choice_fraction=0)))
        assert tasks <= {s.task for s in made}, path
        for sample in made:
            for turn in sample.turns:
                assert turn.text.strip() and "None" not in turn.text
                for box in turn.boxes:
                    assert box.xyxy[2] > box.xyxy[0] and box.xyxy[3] > box.xyxy[1]


def test_the_command(tmp_path, shared_data):
    import os
    import subprocess
    import sys

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "lhrs", "instruct", "build", *map(str, words)], capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(SRC)},
        )  # fmt: skip

    out = tmp_path / "a.jsonl"
    done = run(shared_data / "eurosat/test", "--out", out, "--task", "scene", "--multiple-choice-fraction", "1")
    assert done.returncode == 0 and "2,000 samples about 2,000 images" in done.stderr, done.stderr
    answers = Counter(json.loads(line)["turns"][1]["text"] for line in out.read_text().splitlines())
    assert answers == {"A": 500, "B": 500, "C": 500, "D": 500}
    again = run(shared_data / "eurosat/test", "--out", out)
    assert again.returncode == 2 and len(again.stderr.splitlines()) == 1 and "exists already" in again.stderr
    assert "scene " in run("--list").stdout


def test_maps_are_asked_about_as_their_facts_say(shared_data, tmp_path):
    """Churches are buildings when buildings are counted, and nobody is asked to tell a plain building from a house."""
    from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
    from lhrs.align.table import read_table, rows_to_facts
    from lhrs.align.tags import tag_table

    build_caption_dataset(
        CaptionDatasetConfig(osm=shared_data / "osm/monaco.osm.gz", out=tmp_path / "ds", size=256, gsd_m=0.5)
    )
    facts = {row["id"]: rows_to_facts(row["facts"]) for row in read_table(tmp_path / "ds").to_pylist()}
    found = collect_annotations(tmp_path / "ds")
    words = Vocabulary(tuple(sorted({t.label for k in found for t in k.objects})))
    made = list(
        make_samples(
            found,
            words,
            InstructionConfig(tasks=["count", "region"], conversation_fraction=0, multiple_choice_fraction=1),
        )
    )
    counted = [s for s in made if re.match("(How many|Count the|What is the number of) buildings", s.turns[0].text)]
    assert len(counted) > 5
    for sample in counted:
        lines = [line for line in sample.turns[0].text.splitlines() if line[1:3] == ". "]
        value = int(lines["ABCD".index(sample.turns[1].text)][3:])
        building = next(f for f in facts[sample.id.split("#")[0]] if f.kind == "building")
        assert value == building.num_visible
    for sample in (s for s in made if s.task == "region (choice)"):
        options = [line[3:] for line in sample.turns[0].text.splitlines() if line[1:3] == ". "]
        right = options["ABCD".index(sample.turns[1].text)]
        kind = tag_table().kinds[right.split(" ", 1)[1]]
        assert kind.name != "building" and not (kind.parent == "building" and "a building" in options)


def test_the_place_of_the_right_number_gives_nothing_away(images):
    made = make_samples(
        images.values(),
        WORDS,
        InstructionConfig(tasks=["count"], multiple_choice_fraction=1, conversation_fraction=0, max_per_image=1),
    )
    ranks = Counter()
    for sample in made:
        options = [int(line[3:]) for line in sample.turns[0].text.splitlines() if line[1:3] == ". "]
        value = options["ABCD".index(sample.turns[1].text)]
        if value >= 3:
            ranks[sorted(options).index(value)] += 1
    assert len(ranks) == 4 and min(ranks.values()) > 0.08 * ranks.total()
