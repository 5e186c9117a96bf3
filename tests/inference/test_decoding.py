import pytest

from lhrs.errors import ConfigError
from lhrs.inference.decoding import Stream, Trie

END = -1


def letters(text: str) -> list[int]:
    return [ord(c) for c in text.lower()]


def test_every_path_of_a_trie_is_an_option():
    trie = Trie(["sea", "Sea lake", "river"], letters, END)
    paths, open_ = [], [((), trie.root)]
    while open_:
        tokens, node = open_.pop()
        for token, below in node.items():
            if token == END:
                paths.append(trie.option(tokens))
            else:
                open_.append(((*tokens, token), below))
    assert sorted(paths) == ["Sea lake", "river", "sea"]
    assert trie.depth == len("sea lake") + 1


def test_forced_tokens_stop_at_a_fork():
    trie = Trie(["sea", "seal", "river"], letters, END)
    assert trie.forced(trie.walk(letters("r"))) == [*letters("iver"), END]
    assert trie.forced(trie.walk(letters("s"))) == letters("ea")


def test_options_of_equal_tokens_are_refused():
    with pytest.raises(ConfigError, match="'SEA' is the same as 'sea'"):
        Trie(["sea", "SEA"], letters, END)
    with pytest.raises(ConfigError, match="no text"):
        Trie(["sea", ""], letters, END)


def test_a_character_is_shown_when_all_its_bytes_are_there():
    data, pieces = "a \u6cb3 \u00e9".encode(), []
    stream = Stream(pieces.append)
    for end in range(1, len(data) + 1):
        stream.show(data[:end].decode(errors="replace"), complete=end == len(data))
    assert pieces == ["a", " ", "\u6cb3", " ", "\u00e9"]


def test_bytes_that_are_no_character_are_shown_at_the_end():
    pieces = []
    stream = Stream(pieces.append)
    stream.show("a\ufffd", complete=False)
    stream.show("a\ufffd\ufffd", complete=True)
    assert pieces == ["a", "\ufffd\ufffd"]
