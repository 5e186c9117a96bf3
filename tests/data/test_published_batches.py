"""Published conversations and captions reach a training batch with the right words and boxes, token by token."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.data.chats import byte_processor, learned_text  # noqa: E402

from lhrs.data.chat_dataset import ChatDataset, ChatEncoder  # noqa: E402
from lhrs.data.collate import Collator  # noqa: E402
from lhrs.data.dataset import open_dataset  # noqa: E402
from lhrs.models.presets import chat_template  # noqa: E402

MINIATURES = Path(__file__).parent / "miniatures"
TRAINED = {
    "geochat": [
        ["[0.200, 0.400, 0.600, 0.800]"], ["<p>plane</p>"],
        ["<p>Two ships</p> [0.150, 0.100, 0.250, 0.500], [0.550, 0.100, 0.650, 0.500] at <p>a port</p> "
         "[0.000, 0.000, 0.090, 0.090]."],
        ["No", "Yes"],
    ],
    "vrsbench": [["A high-resolution image of a harbor."], ["3"], ["[0.250, 0.400, 0.500, 0.750]"]],
    "fit_rs": [
        ["There are <ref>two ships</ref>[0.200, 0.400, 0.300, 0.600], [0.493, 0.309, 0.717, 0.496] in the image."],
    ],
    "vhm": [["Red."], ["There is no plane."]],
    "lhrs_instruct": [["An airport.", "Yes."], ["[0.100, 0.200, 0.350, 0.400]"]],
    "messages/swift.jsonl": [["A port."], ["[0.050, 0.200, 0.152, 0.400], [0.500, 0.500, 0.700, 0.900]"], ["A road."]],
    "messages/qwen.jsonl": [["the ship[0.100, 0.200, 0.500, 0.800]"]],
    "rsteller": [["A road crosses patch 607."], ["Patch 607 shows a road."], ["A road crosses patch 608."],
                 ["Patch 608 shows a road."]],
    "rs5m": [["a satellite image of pub11"], ["fields"], ["a satellite image of rs3"], ["fields"]],
    "rsicd": [["many planes ."], ["an airport ."], ["a river ."]],
    "nwpu_captions": [["Three planes ."], ["Planes stand ."]],
    "skyscript/dataframe/SkyScript_train_top30pct.csv": [["a hedge"],
        ['a hedge, surrounded by "farmland"'], ["a pier"]],
    "chatearthnet": [["This image shows crops."], ["Mostly forest."]],
    "levir_cc": [["two houses appear ."], ["second sentence ."], ["nothing has changed ."], ["second sentence ."]],
    "bigearthnet_txt": [["A lake."], ["[0.250, 0.300, 0.500, 0.750]"], ["no"]],
}  # fmt: skip
"""Trained answers of each sample."""


@pytest.fixture(scope="module")
def encoder() -> ChatEncoder:
    return ChatEncoder(byte_processor(), chat_template("llama3"))


@pytest.mark.parametrize("place", TRAINED)
def test_what_is_trained(encoder, place):
    data = open_dataset(MINIATURES / place)
    rows = [ChatDataset([data], [1.0], encoder)[0, index] for index in range(len(data))]
    trained = [[text.removesuffix("<|eot_id|>").strip() for text in learned_text(encoder, row)] for row in rows]
    assert trained == TRAINED[place]
    assert [len(row["pixel_values"]) for row in rows] == [len(sample.images) for sample in data]
    batch = Collator(encoder.processor.tokenizer.pad_token_id)(rows)
    assert len(batch["input_ids"]) == len(rows)


def test_a_box_in_a_question_is_not_trained(encoder):
    identify = ChatDataset([open_dataset(MINIATURES / "geochat")], [1.0], encoder)[0, 1]
    asked = encoder.processor.tokenizer.decode(identify["input_ids"])
    assert "[identify] [0.379, 0.359, 0.521, 0.641]" in asked
    assert learned_text(encoder, identify) == ["<p>plane</p><|eot_id|>"]
