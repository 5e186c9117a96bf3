"""Constraints: what they allow is well formed, whatever a model would like to say."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLTokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lhrs.boxes import STYLES, format_boxes, parse_boxes
from lhrs.errors import ConfigError
from lhrs.inference.decoding import (
    BoxConstraint,
    OptionConstraint,
    RegexConstraint,
    TextStreamer,
)


class Letters:
    """A vocabulary whose tokens are characters, folded to lower case."""

    eos_token_ids = (-1, -2)

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text.lower()]


class Pieces:
    """A byte-pair vocabulary made from boxes: digits, commas and brackets stick together in many ways."""

    eos_token_ids = (0, 1)

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        boxes = np.sort(rng.uniform(0, 1000, (400, 2, 2)), axis=1).reshape(400, 4)
        self._tokenizer = Tokenizer(models.BPE())
        self._tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        self._tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=2000,
            special_tokens=["<eos>", "<stop>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=6,
            show_progress=False,
        )
        texts = [format_boxes(boxes[n : n + 2], (1000, 1000), style) for style in STYLES for n in range(400)]
        self._tokenizer.train_from_iterator(texts, trainer)
        self.grammars = LLTokenizer(self._tokenizer.to_str(), eos_token=0)

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def decode(self, tokens) -> str:
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False)


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces()


def babble(constraint, end, seed: int, limit: int = 200) -> str:
    """Take allowed tokens at random, as a model that knows nothing would."""
    rng, tokens = np.random.default_rng(seed), []
    while len(tokens) < (constraint.limit or limit):
        token = int(rng.choice(constraint.allowed(tokens)))
        if token in end:
            break
        tokens.append(token)
        if rest := constraint.forced(tokens):
            tokens += rest[:-1]
            break
    return constraint.text(tokens)


def test_every_path_of_options_is_an_option():
    options = OptionConstraint(["sea", "Sea lake", "river"], Letters())
    assert {babble(options, Letters.eos_token_ids, seed) for seed in range(40)} == {"sea", "Sea lake", "river"}
    assert options.limit == len("sea lake") + 1


def test_forced_tokens_lead_to_the_end_and_stop_at_a_fork():
    options = OptionConstraint(["sea", "seal", "river"], Letters())
    assert options.forced(Letters().encode("r")) == [*Letters().encode("iver"), -1]
    assert options.forced(Letters().encode("s")) == []


def test_options_of_equal_tokens_are_refused():
    with pytest.raises(ConfigError, match="'SEA' is the same as 'sea'"):
        OptionConstraint(["sea", "SEA"], Letters())
    with pytest.raises(ConfigError, match="no text"):
        OptionConstraint(["sea", ""], Letters())


@given(st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_pattern_is_matched_whole_and_any_end_token_ends_it(pieces, seed):
    text = babble(RegexConstraint("(?:0|[1-9][0-9]{0,4})|can't tell", pieces), pieces.eos_token_ids, seed)
    assert re.fullmatch(r"0|[1-9]\d{0,4}|can't tell", text)
    assert {0, 1} <= set(RegexConstraint("[0-9]{1,2}", pieces).allowed(pieces.encode("7")).tolist())


def test_a_wrong_pattern_is_named(pieces):
    with pytest.raises(ConfigError, match=r"pattern '\(a'"):
        RegexConstraint("(a", pieces)


@pytest.mark.parametrize("style", STYLES)
@given(st.integers(0, 10**6), st.integers(3, 80))
@settings(max_examples=25, deadline=None)
def test_constrained_boxes_are_boxes(pieces, style, seed, limit):
    """Random tokens, cut off anywhere: what is left parses without a malformed box."""
    text = babble(BoxConstraint(style, pieces), pieces.eos_token_ids, seed, limit)
    found = parse_boxes(text, (1000, 1000), style)
    assert found.num_malformed == 0 and (len(found.boxes) or text == "")


@pytest.mark.parametrize("style", STYLES)
def test_every_box_that_is_written_is_allowed(pieces, style):
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 1000, (3, 2, 2)), axis=1).reshape(3, 4)
    boxes[0] = [0, 0, 1000, 1000]
    constraint, tokens = BoxConstraint(style, pieces), []
    for token in pieces.encode(format_boxes(boxes, (1000, 1000), style)):
        assert token in constraint.allowed(tokens), pieces.decode(tokens)
        tokens.append(token)
    assert pieces.eos_token_ids[0] in constraint.allowed(tokens)


def test_a_character_is_shown_when_all_its_bytes_are_there():
    data, shown = "a \u6cb3 \u00e9".encode(), []
    stream = TextStreamer(shown.append)
    for end in range(1, len(data) + 1):
        stream.show(data[:end].decode(errors="replace"), complete=end == len(data))
    assert shown == ["a", " ", "\u6cb3", " ", "\u00e9"]


def test_bytes_that_are_no_character_are_shown_at_the_end():
    shown = []
    stream = TextStreamer(shown.append)
    stream.show("a\ufffd", complete=False)
    stream.show("a\ufffd\ufffd", complete=True)
    assert shown == ["a", "\ufffd\ufffd"]
