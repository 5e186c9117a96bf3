"""What is learned of a conversation: the answers and the tokens that end them, nothing else."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.data.chats import NUM_IMAGE_TOKENS, SIDE, byte_processor, learned_text  # noqa: E402

from lhrs.data.chat_dataset import IGNORE, ChatDataset, ChatEncoder  # noqa: E402
from lhrs.data.collate import Collator  # noqa: E402
from lhrs.errors import ConfigError, DataError  # noqa: E402
from lhrs.inference.model_family import get_family  # noqa: E402
from lhrs.models.presets import chat_template  # noqa: E402
from lhrs.schema import Box, Sample, Turn  # noqa: E402

TEMPLATES = ("llama3", "llava_llama_2", "plain")


@pytest.fixture(scope="module")
def processor():
    return byte_processor()


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for n, path in enumerate(paths):
        Image.fromarray(np.full((20, 20, 3), 60 + 100 * n, np.uint8)).save(path)
    return [str(path) for path in paths]


def talk(*texts: str, images: tuple[str, ...] | list[str] = ()) -> Sample:
    """Turns of user and assistant in alternation."""
    turns = [Turn(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts)]
    return Sample(id="one", images=list(images), turns=turns, source="test", license="CC0-1.0")


@pytest.mark.parametrize("name", ["llama3", "llava_llama_2"])
def test_only_answers_and_their_ends_are_learned(processor, pictures, name):
    encoder = ChatEncoder(processor, chat_template(name), system_prompt="be exact")
    row = encoder.encode(talk("what is it?", "a river", "sure?", "yes it is", images=pictures[:1]))
    learned = learned_text(encoder, row)
    assert [text.replace("<|eot_id|>", "").replace("</s>", "").strip() for text in learned] == ["a river", "yes it is"]
    assert all(text.endswith(("<|eot_id|>", "</s>")) for text in learned)
    learns = row["labels"] != IGNORE
    assert (row["labels"][learns] == row["input_ids"][learns]).all()
    assert not (row["input_ids"][learns] == processor.image_token_id).any()


def test_the_alignment_template_learns_the_caption_alone(processor, pictures):
    encoder = ChatEncoder(processor, chat_template("plain"))
    row = encoder.encode(talk("describe it", "a river", images=pictures[:1]))
    assert [text.strip() for text in learned_text(encoder, row)] == ["a river"]
    assert "describe" not in processor.tokenizer.decode(row["input_ids"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_image_has_its_tokens_and_its_pixels_in_order(processor, pictures, name):
    encoder = ChatEncoder(processor, chat_template(name))
    row = encoder.encode(talk("compare", "one is darker", images=pictures))
    assert int((row["input_ids"] == processor.image_token_id).sum()) == 2 * NUM_IMAGE_TOKENS
    assert row["pixel_values"].shape == (2, 3, SIDE, SIDE)
    assert row["pixel_values"][0].mean() < row["pixel_values"][1].mean()


def test_images_appear_in_the_turn_that_names_them(processor, pictures):
    encoder = ChatEncoder(processor, chat_template("llama3"))
    row = encoder.encode(talk("hello", "hi", "<image>\nwhat is it?", "a river", images=pictures[:1]))
    text = processor.tokenizer.decode(row["input_ids"])
    assert text.index("hi") < text.index(processor.image_token) < text.index("what is it?")


def test_a_text_only_conversation_has_no_pixels(processor):
    row = ChatEncoder(processor, chat_template("llama3")).encode(talk("hello", "hi"))
    assert "pixel_values" not in row


def test_what_is_generated_from_is_what_was_trained_on(processor, pictures):
    encoder = ChatEncoder(processor, chat_template("llama3"))
    sample = talk("what is it?", "a river", "sure?", "yes", images=pictures[:1])
    row, prompt = encoder.encode(sample), encoder.prompt(sample)
    start = int((row["labels"] != IGNORE).nonzero()[0])
    assert prompt["input_ids"][0].tolist() == row["input_ids"][:start].tolist()


@pytest.mark.parametrize("name", ["lhrs_bot", "lhrs_bot_nova", "perception"])
def test_boxes_are_told_as_inference_reads_them(processor, tmp_path, name):
    family, size = get_family(name), (1500, 700)  # is opened reduced, and cropped to a square
    Image.new("RGB", size).save(tmp_path / "wide.png")
    asked, answered = ((12, 30, 600, 360.5),), ((0, 0, 1500, 700), (900, 14, 1390, 200))
    turns = [
        Turn(role=role, text=text, boxes=[Box(label="plane", xyxy=xyxy) for xyxy in boxes])
        for role, text, boxes in (
            ("user", "What is in this box?", asked),
            ("assistant", "a plane", ()),
            ("user", "Find all planes.", ()),
            ("assistant", "two planes", answered),
        )
    ]
    sample = Sample(id="one", images=[str(tmp_path / "wide.png")], turns=turns, source="test", license="CC0-1.0")
    encoder = ChatEncoder(processor, chat_template("llama3"), box_style=family.box_style)
    row, prompt = encoder.encode(sample), encoder.prompt(sample)
    first, second = learned_text(encoder, row)
    assert first == "a plane<|eot_id|>" and second.startswith("two planes ")
    question = processor.tokenizer.decode(prompt["input_ids"][0]).partition("What is in this box?")[2]
    for text, boxes in ((question, asked), (second, answered)):
        found = family.read_boxes(text, size)
        assert found.num_malformed == 0 and len(found.boxes) == len(boxes)
        coarseness = 0.5001 / 1000
        assert np.abs(found.boxes - np.array(boxes) / (*size, *size)).max() <= coarseness


def marked(xyxy: tuple[float, float, float, float], images: list[str]) -> Sample:
    turns = [Turn(role="user", text="?"), Turn(role="assistant", text="", boxes=[Box(label="a", xyxy=xyxy)])]
    return Sample(id="one", images=images, turns=turns, source="test", license="CC0-1.0")


def test_boxes_that_are_none_are_refused_by_name(processor, pictures):
    encoder = ChatEncoder(processor, chat_template("llama3"))
    for sample, why in ((marked((9, 1, 2, 3), pictures[:1]), "not xyxy"), (marked((1, 2, 3, 4), []), "no image")):
        with pytest.raises(DataError, match=why) as error:
            encoder.encode(sample)
        assert "'one'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (talk("only a question"), "no answer to train on"),
        (talk("<image> what is it?", "a river"), "0 images but its conversation has 1 places"),
    ],
)
def test_a_sample_that_teaches_nothing_is_refused_by_name(processor, sample, why):
    with pytest.raises(DataError, match=why) as error:
        ChatEncoder(processor, chat_template("llama3")).encode(sample)
    assert "'one'" in str(error.value) and "\n" not in str(error.value)


def test_a_long_conversation_is_cut_but_never_within_its_images(processor, pictures):
    sample = talk("what is it?", "a river " * 50, images=pictures[:1])
    row = ChatEncoder(processor, chat_template("llama3"), max_tokens=120).encode(sample)
    assert len(row["input_ids"]) == len(row["labels"]) == 120
    with pytest.raises(DataError, match="max_tokens=8 is too small for its images"):
        ChatEncoder(processor, chat_template("llama3"), max_tokens=8).encode(sample)


def test_a_template_that_marks_no_answers_is_refused(processor):
    with pytest.raises(ConfigError, match="does not mark answers"):
        ChatEncoder(processor, "{% for m in messages %}{{ m.content }}{% endfor %}")


def test_rows_of_unequal_length_are_padded_on_the_right_and_their_images_joined(processor, pictures):
    encoder = ChatEncoder(processor, chat_template("llama3"))
    rows = [
        encoder.encode(talk("compare", "one is darker than the other", images=pictures)),
        encoder.encode(talk("hello", "hi")),
        encoder.encode(talk("what is it?", "a river", images=pictures[1:])),
    ]
    batch = Collator(pad_id=0)(rows)
    lengths = [len(row["input_ids"]) for row in rows]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for n, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        assert batch["input_ids"][n, :length].tolist() == row["input_ids"].tolist()
        assert (batch["labels"][n, length:] == IGNORE).all()
    assert torch.equal(batch["pixel_values"], torch.cat([rows[0]["pixel_values"], rows[2]["pixel_values"]]))


def test_samples_of_several_sources_are_counted_through(processor):
    first, second = [talk("a", "b")] * 2, [talk("c", "d")] * 3
    data = ChatDataset([first, second], [1.0, 2.0], ChatEncoder(processor, chat_template("llama3")))
    assert len(data) == 5 and data.weights.tolist() == [1, 1, 2, 2, 2]
    assert [data.sample(n).turns[0].text for n in range(5)] == ["a", "a", "c", "c", "c"]
    assert torch.equal(data[0, 3]["input_ids"], data[7, 4]["input_ids"])
