"""The characters of texts, which a linear model reads beside the tokens: parts and forms of words.

Prepared data hold them as a column `characters` of normalized text; in memory they are UTF-16 code
units end to end, two bytes each. There is no vocabulary: a code unit is its own id.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from lstmcls.cli import BadInput

A_TOKEN = 6  # characters kept of a text for each token kept; English has five, a space included

CodeUnits = tuple[NDArray[np.uint16], NDArray[np.int64]]  # of all rows end to end, and offsets


def encode_characters(tokenizer: Tokenizer, texts: list[str], longest: int) -> list[str]:
    """What the tokenizer reads of each text before it looks for tokens, `longest` characters of it.

    Normalized, every run of white space as one space, and a space at both ends: n-grams of
    characters at the border of a text are then those at the border of a word.
    """
    normalize = tokenizer.normalizer.normalize_str
    return [f" {' '.join(normalize(text).split())} "[:longest] for text in texts]


def code_units(batches: Iterable[Iterable[str]]) -> CodeUnits:
    """The code units of texts in batches: uint16, and offsets: int64, texts + 1."""
    flat, lengths = bytearray(), array("q", [0])
    for batch in batches:
        for text in batch:
            units = text.encode("utf-16-le")
            flat += units
            lengths.append(len(units) // 2)
    units_of_all = np.frombuffer(flat, dtype="<u2").astype(np.uint16, copy=False)
    return units_of_all, np.cumsum(lengths, dtype=np.int64)


def read_characters(path: Path) -> CodeUnits | tuple[None, None]:
    """The column `characters` of a prepared split, read in batches; older data has none.

    Raises:
        BadInput: it is no column of texts, or one is missing or damaged.
    """
    with pq.ParquetFile(path, memory_map=True) as file:
        if "characters" not in file.schema_arrow.names:
            return None, None
        kind = file.schema_arrow.field("characters").type
        if not pa.types.is_string(kind):
            raise BadInput(f"{path}: 'characters' is {kind}, expected string")
        try:
            batches = file.iter_batches(columns=["characters"])
            return code_units(batch.column(0).to_pylist() for batch in batches)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
        except (AttributeError, UnicodeDecodeError):
            raise BadInput(f"{path}: 'characters' has a missing or damaged text") from None
