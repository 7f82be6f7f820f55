"""Text to ids: words, pieces or characters, as one `tokenizers` file that needs nothing else.

Id 0 is [PAD] and id 1 is [UNK] in every vocabulary. Neither can be typed: the literal text
"[PAD]" is tokenized like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lstmcls.cli import BadInput, nearest

KINDS = ("word", "pieces", "char", "bpe")
# The largest number of ids where nobody names one. BPE reaches every text with fewer pieces.
VOCABULARY = {"word": 30_000, "pieces": 30_000, "char": 30_000, "bpe": 8_000}
# Of a whole word among `pieces`; `benchmarks/tokenizing.py` finds 10 and 40 no better.
FREQUENT = 20
PAD, UNK = "[PAD]", "[UNK]"
PAD_ID, UNK_ID = 0, 1
MERGED = {"pieces": FREQUENT, "bpe": 2}  # of which kinds a merge is seen so often at least
SMALLEST_VOCABULARY = 3  # the two above and one token

# Scripts written without spaces: a run of them is a sentence and not a word.
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# Every character that is not white space belongs to exactly one match, so no text is lost.
_WORD = rf"[\w&&[^{_SPACELESS}]]+|[{_SPACELESS}]\p{{M}}*|[^\s\w]"
_SPAN = r"\w+|[^\s\w]"
_CHARACTER = r"(?m:.)"  # in Oniguruma, m lets the dot match a newline
_START = "\u2581"  # before a word's first piece: "un" in "unkind" is not the "un" in "fun"

# What every kind of tokenizer does to a text first.
_STEPS = (
    normalizers.Replace(Regex(r"(?i)<br\s*/?>"), " "),
    normalizers.NFKC(),
    normalizers.Lowercase(),
)
_NORMALIZER = normalizers.Sequence(list(_STEPS))


def normal_form(text: str) -> str:
    """`text` as a network reads it: equal for texts that no tokenizer tells apart.

    Without line-break tags, in Unicode's form NFKC, in lower case, with single spaces, and none
    at its ends.
    """
    return " ".join(_NORMALIZER.normalize_str(text).split())


def train_tokenizer(kind: str, batches: Iterable[list[str]], vocab_size: int) -> Tokenizer:
    """A tokenizer trained on batches of texts, which are read once, as a stream.

    `word`: words, punctuation marks, and single characters of scripts written without spaces,
    each seen at least twice. `pieces`: the same, but a word seen fewer than FREQUENT times is
    spelled by BPE pieces that are as frequent. `char`: characters. `bpe`: pieces merged inside a
    run of letters, so Han characters join into words and no piece crosses white space or
    punctuation. Words and characters are numbered by frequency; the two kinds of BPE have their
    characters first, then merges in order.

    Args:
        vocab_size: the largest number of ids, [PAD] and [UNK] included.

    Raises:
        BadInput: an unknown kind, or a vocabulary below 3.
    """
    check_choice(kind, vocab_size)
    tokenizer = _untrained(kind)
    tokenizer.train_from_iterator(batches, _trainer(kind, vocab_size))
    # A special token is also matched in the raw text; without the list it is only an id.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(content))


def check_choice(kind: str, vocab_size: int | None) -> None:
    """Raises BadInput where `train_tokenizer` would."""
    if kind not in KINDS:
        raise BadInput(
            f"tokenizer: expected one of {', '.join(KINDS)}, got {kind!r}{nearest(kind, KINDS)}"
        )
    if vocab_size is not None and vocab_size < SMALLEST_VOCABULARY:
        raise BadInput(
            f"vocab-size: expected at least {SMALLEST_VOCABULARY} "
            f"({PAD}, {UNK} and one token), got {vocab_size}"
        )


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer saved at `path`.

    Raises:
        BadInput: the file is missing, damaged, or has other ids for [PAD] and [UNK].
    """
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # the library raises bare Exception for every fault
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path}: not a tokenizer file ({reason}); prepare the data again") from None
    if (tokenizer.token_to_id(PAD), tokenizer.token_to_id(UNK)) != (PAD_ID, UNK_ID):
        raise BadInput(f"{path}: expected {PAD} as id {PAD_ID} and {UNK} as id {UNK_ID}")
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each text, in order; a text without a token becomes the one id of [UNK]."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids or [UNK_ID] for encoding in encodings]


def _untrained(kind: str) -> Tokenizer:
    model = models.BPE if kind in MERGED else models.WordLevel
    tokenizer = Tokenizer(model(unk_token=UNK))
    steps: list[Any] = list(_STEPS)
    if kind == "char":  # a space is a token here, and a run of them says no more than one
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(steps)
    pattern = {"word": _WORD, "pieces": _WORD, "char": _CHARACTER, "bpe": _SPAN}[kind]
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    if kind == "pieces":
        marked = pre_tokenizers.Metaspace(_START, prepend_scheme="always", split=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([tokenizer.pre_tokenizer, marked])
        tokenizer.decoder = decoders.Metaspace(_START, prepend_scheme="always")
    return tokenizer


def _trainer(kind: str, vocab_size: int) -> Any:
    special = [PAD, UNK]
    if kind in MERGED:
        return trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=MERGED[kind],
            limit_alphabet=vocab_size - len(special),  # the library would exceed vocab_size
            special_tokens=special,
            show_progress=False,
        )
    return trainers.WordLevelTrainer(
        vocab_size=vocab_size,
        min_frequency=2 if kind == "word" else 1,
        special_tokens=special,
        show_progress=False,
    )
