from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lstmcls.cli import BadInput
from lstmcls.tokenizer import (
    FREQUENT,
    KINDS,
    PAD,
    PAD_ID,
    UNK,
    UNK_ID,
    encode,
    load_tokenizer,
    normal_form,
    train_tokenizer,
)

CORPUS = [
    "A great film, truly great!<br /><br />Don't miss it.",
    "A bad film. Don't watch it, it is bad :(",
    "这本书很好，我喜欢这本书",
    "这本书不好，我不喜欢",
] * 3


def train(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    return train_tokenizer(kind, ([text] for text in texts), vocab_size)


TRAINED = {kind: train(kind, CORPUS, 500) for kind in KINDS}


def tokens(kind: str, text: str, corpus: list[str] | None = None) -> list[str]:
    tokenizer = train(kind, (corpus or [text]) * 2, 1000)
    return [tokenizer.id_to_token(i) for i in encode(tokenizer, [text])[0]]


def test_word_splits_on_white_space_and_punctuation_and_drops_line_breaks() -> None:
    assert tokens("word", "Great,  film!!<br /><BR>don't\n") == [
        "great", ",", "film", "!", "!", "don", "'", "t",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我爱NLP课", ["我", "爱", "nlp", "课"]),
        ("すしスシ", ["す", "し", "ス", "シ"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("한국어 좋다", ["한국어", "좋다"]),
        ("Ünïcode ﬁlm ①", ["ünïcode", "film", "1"]),
        ("😀😀", ["😀", "😀"]),
    ],
)
def test_word_in_other_scripts(text: str, expected: list[str]) -> None:
    assert tokens("word", text) == expected


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8")))
def test_a_text_and_its_normal_form_have_the_same_ids(kind: str, text: str) -> None:
    normal = normal_form(text)
    varied = "<BR />\n" + normal.replace(" ", " \t<br>") + " "
    assert normal_form(varied) == normal_form(normal)
    rows = encode(TRAINED[kind], [varied, normal])
    assert rows[0] == rows[1]


def test_char_keeps_one_space_between_words() -> None:
    assert tokens("char", " Ab \n  c<br/>") == ["a", "b", " ", "c"]


def test_bpe_merges_han_characters_and_stays_inside_a_run() -> None:
    pieces = tokens("bpe", "很好很好，电影 很好", ["很好，电影 很好"] * 5)
    assert "很好" in pieces
    assert "," in pieces  # NFKC
    assert "".join(pieces) == "很好很好,电影很好"


def pieces(text: str, corpus: list[str]) -> list[str]:
    tokenizer = train("pieces", corpus, 1000)
    return [tokenizer.id_to_token(i) for i in encode(tokenizer, [text])[0]]


def test_pieces_keep_frequent_words_whole_and_spell_rare_ones() -> None:
    corpus = ["kind fun"] * FREQUENT + ["unkind"] * (FREQUENT - 1)
    found = pieces("Kind, unkind fun", corpus)
    assert found[0] == "▁kind"
    assert found[-1] == "▁fun"
    assert "▁unkind" not in found
    assert "▁unkind" in pieces("unkind", [*corpus, "unkind"])


def test_pieces_tell_the_start_of_a_word_from_its_inside() -> None:
    corpus = ["un"] * FREQUENT + ["fun"] * (FREQUENT - 1)
    assert pieces("un", corpus) == ["▁un"]
    assert "▁un" not in pieces("fun", corpus)


def test_pieces_cross_neither_punctuation_nor_characters_of_scripts_without_spaces() -> None:
    corpus = ["don't 很好"] * FREQUENT
    assert pieces("don't 很好", corpus) == ["▁don", "▁'", "▁t", "▁很", "▁好"]


def test_pieces_are_decoded_as_words() -> None:
    tokenizer = train("pieces", ["the film was great , unlike this"] * FREQUENT, 25)
    [ids] = encode(tokenizer, ["The film, unlike\nthis"])
    assert len(ids) > 5
    assert tokenizer.decode(ids) == "the film , unlike this"


@pytest.mark.parametrize("kind", KINDS)
def test_first_ids_are_pad_and_unk_and_cannot_be_typed(kind: str) -> None:
    tokenizer = train(kind, [f"{PAD} {UNK} [pad] pad"] * 3, 100)
    assert (tokenizer.token_to_id(PAD), tokenizer.token_to_id(UNK)) == (PAD_ID, UNK_ID)
    [ids] = encode(tokenizer, [f"{PAD}{UNK} {PAD}"])
    assert PAD_ID not in ids


def test_words_are_numbered_by_frequency_and_seen_twice() -> None:
    vocabulary = train("word", ["a a a b b c", "b a"], 100).get_vocab()
    assert vocabulary == {PAD: 0, UNK: 1, "a": 2, "b": 3}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3, 5, 20])
def test_vocabulary_is_not_larger_than_asked(kind: str, size: int) -> None:
    assert train(kind, CORPUS, size).get_vocab_size() <= size


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_gives_ids_within_the_vocabulary(kind: str, texts: list[str]) -> None:
    tokenizer = TRAINED[kind]
    rows = encode(tokenizer, texts)
    assert len(rows) == len(texts)
    assert all(rows)
    assert all(PAD_ID < i < tokenizer.get_vocab_size() for row in rows for i in row)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(corpus=st.lists(st.text(max_size=20), max_size=8), text=st.text())
def test_the_file_alone_gives_the_same_ids(
    kind: str, corpus: list[str], text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = train(kind, corpus, 50)
    path = tmp_path_factory.mktemp("t") / "tokenizer.json"
    tokenizer.save(str(path))
    assert encode(load_tokenizer(path), [text, *corpus]) == encode(tokenizer, [text, *corpus])


@pytest.mark.parametrize("kind", ["word", "char"])
@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8")).filter(lambda t: t.strip()))
def test_no_character_is_lost(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    normal = tokenizer.normalizer.normalize_str(text)
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
    assert "".join("".join(pieces).split()) == "".join(normal.split())


def test_training_twice_gives_the_same_file() -> None:
    for kind in KINDS:
        assert train(kind, CORPUS, 60).to_str() == train(kind, iter(CORPUS), 60).to_str()


def test_bad_settings() -> None:
    with pytest.raises(BadInput, match=r"got 'wrod'; did you mean 'word'\?"):
        train("wrod", CORPUS, 100)
    with pytest.raises(BadInput, match="vocab-size: expected at least 3"):
        train("word", CORPUS, 2)


def test_a_damaged_file_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(BadInput, match="cannot be read"):
        load_tokenizer(path)
    for content in (b"", b"{}", TRAINED["word"].to_str().encode()[:-9], b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="not a tokenizer file"):
            load_tokenizer(path)
    path.write_text(TRAINED["word"].to_str().replace(PAD, "[OTHER]"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"expected \[PAD\] as id 0"):
        load_tokenizer(path)
