"""What becomes of a model's reply: labels, boxes on the map, numbering. The replies are written here."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from lhrs.errors import ConfigError, DataError
from lhrs.inference.assistant import BATCH, Assistant, capitalize_answer
from lhrs.inference.images import open_input
from lhrs.inference.model_family import get_family
from lhrs.inference.runtime import Generation, Request


class Parrot:
    """A runtime whose reply is given; it remembers what it was asked."""

    name, family, threshold = "parrot", get_family("instruct"), None

    def __init__(self, text: str = "a reply", probabilities: tuple[float, ...] = (0.5, 0.5), **more: Any) -> None:
        self.text, self.probabilities, self.more = text, probabilities, more
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None) -> list[Generation]:
        self.asked += requests
        texts = [r.options[-1] if r.options else self.text for r in requests]
        boxes = self.family.read_boxes(self.text, (1, 1)).boxes
        return [Generation(text, (self.text,), self.probabilities, boxes, **self.more) for text in texts]

    def ood_score(self, pixels: np.ndarray) -> None:
        return None


GRAY = np.full((64, 64, 3), 128, np.uint8)


@pytest.fixture
def tile(tmp_path):
    """A GeoTIFF of 100 x 50 pixels of 10 m in UTM zone 33 north."""
    path = tmp_path / "tile.tif"
    profile = dict(driver="GTiff", width=100, height=50, count=3, dtype="uint8", crs="EPSG:32633")
    with rasterio.open(path, "w", transform=from_origin(500000, 5_400_000, 10, 10), **profile) as out:
        out.write(np.full((3, 50, 100), 90, np.uint8))
    return path


def test_labels_are_asked_as_words_and_given_back_as_they_came():
    runtime = Parrot()
    answer = Assistant(runtime).classify(GRAY, ["AnnualCrop", "sea_lake", "SeaLakeShore"])
    assert runtime.asked[0].options == ("annual crop", "sea lake", "sea lake shore")
    assert answer.answer == "SeaLakeShore"


@pytest.mark.parametrize("labels", [["a"], ["a", " "], ["SeaLake", "sea_lake"]])
def test_labels_without_a_choice_are_refused(labels):
    with pytest.raises(ConfigError):
        Assistant(Parrot()).classify(GRAY, labels)


def test_boxes_are_pixels_of_the_file_and_lie_on_the_map(tile):
    text = "[0.0, 0.0, 0.5, 1.0], [0.1, 0.2, 0.1, 0.2]"
    found = Assistant(Parrot(text, box_scores=(0.9, 0.4))).ground(tile, "all the ships")
    whole, dot = found.boxes
    assert whole.xyxy == pytest.approx((0, 0, 50, 50)) and dot.xyxy == pytest.approx((10, 10, 10, 10))
    assert whole.label == "ships" and found.answer == "2 boxes"
    assert (whole.confidence, dot.confidence) == pytest.approx((0.9, 0.4))
    lon, lat = np.array(whole.lonlat).T
    assert lon.min() == pytest.approx(15.0, abs=1e-3) and lon.max() == pytest.approx(15.0067, abs=1e-3)
    assert lat.min() == pytest.approx(48.7485, abs=2e-4) and lat.max() == pytest.approx(48.7530, abs=2e-4)


def test_boxes_without_scores_have_that_of_the_answer():
    found = Assistant(Parrot("[0.0, 0.0, 0.5, 1.0], [0.1, 0.2, 0.1, 0.2]", (0.9, 0.4))).ground(GRAY, "the ships")
    assert [box.confidence for box in found.boxes] == pytest.approx([0.6, 0.6])


def test_boxes_have_the_labels_of_the_reply():
    runtime = Parrot("[0.0, 0.0, 0.5, 1.0], [0.1, 0.2, 0.1, 0.2]", box_labels=("ship", "pier"))
    assert [box.label for box in Assistant(runtime).ground(GRAY, "all").boxes] == ["ship", "pier"]


def test_a_picture_has_boxes_without_a_place():
    found = Assistant(Parrot("[0.0, 0.0, 0.5, 1.0]")).ground(GRAY, "the ships")
    assert found.boxes[0].lonlat is None and found.boxes[0].label == "ships"


def test_order_and_numbers_hold_across_batches_and_broken_images(tmp_path):
    runtime, errors = Parrot(), []
    images = [GRAY] * 3 + [tmp_path / "missing.png"] + [GRAY] * BATCH
    answers = list(Assistant(runtime, temperature=1.0, seed=5).ask_all(images, "what?", on_error=errors.append))
    assert len(answers) == len(images) - 1 and len(errors) == 1 and "missing.png" in str(errors[0])
    indices = [r.sampling.index for r in runtime.asked if r.sampling]
    assert indices == [n for n in range(len(images)) if n != 3]


def test_without_a_place_for_errors_they_are_raised(tmp_path):
    with pytest.raises(DataError, match=r"missing\.png"):
        list(Assistant(Parrot()).ask_all([GRAY, tmp_path / "missing.png"], "what?"))


def test_a_conversation_passes_on_what_the_model_said():
    runtime = Parrot("[0.0, 0.0, 0.5, 1.0]")
    talk = Assistant(runtime).chat(open_input(GRAY)[1], "gray")
    assert talk.ask("where is it?").answer == "1 box"
    talk.ask("and now?")
    assert runtime.asked[1].history == (("where is it?", "[0.0, 0.0, 0.5, 1.0]"),)
    assert runtime.asked[1].images[0] is runtime.asked[0].images[0]


def test_empty_questions_are_refused():
    with pytest.raises(ConfigError, match="empty"):
        Assistant(Parrot()).ask(GRAY, "  ")


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8)])
def test_arrays_must_be_pictures(array):
    with pytest.raises(DataError, match="uint8"):
        Assistant(Parrot()).ask(array, "what?")


def test_answers_are_written_as_people_write():
    assert capitalize_answer("i can't tell from this image.") == "I can't tell from this image."
    assert (capitalize_answer(" a "), capitalize_answer("river"), capitalize_answer("12")) == ("A", "river", "12")
