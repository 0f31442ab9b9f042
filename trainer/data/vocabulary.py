"""Vocabularies of id features: the id of each value, from the config or from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from preprocessing.vocabulary_ids import given_ids, listed_ids


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The id of each known value, as text, and of all others.

    words: string [W].
    ids: int64 [W + 1], of each word, and of any other value.
    size: ids are below it.
    """

    words: pa.Array
    ids: NDArray[np.int64]
    size: int


def read_vocabulary(message: Any, default_value: str) -> Vocabulary:
    """The vocabulary of an id feature.

    Args:
        message: an IdFeature of the config with vocab_list, vocab_dict or vocab_file.
        default_value: what takes the place of no value; empty for none.

    Raises:
        ValueError: an id is not in the table, or the file is not there or not a vocabulary.
    """
    own = message.default_bucketize_value if message.HasField("default_bucketize_value") else None
    if message.vocab_list:
        ids, other_id, size = listed_ids(message.vocab_list, default_value, own)
    elif message.vocab_dict:
        ids, other_id, size = given_ids(message.vocab_dict, default_value, own)
    elif own is None:
        raise ValueError("vocab_file needs default_bucketize_value, but it is missing")
    else:
        words = read_vocabulary_file(Path(message.asset_dir) / message.vocab_file)
        ids, other_id, size = given_ids(words, default_value, own)
    return Vocabulary(
        pa.array(list(ids), pa.string()), np.array([*ids.values(), other_id], np.int64), size
    )


def read_vocabulary_file(path: Path) -> dict[str, int]:
    """Ids of the words of a file: `word` or `word id` a line.

    Raises:
        ValueError: there is no such file, no word in it, or a line is neither.
    """
    if not path.is_file():
        raise ValueError(f"vocab_file must be a file, but there is none: {path}")
    lines = path.read_text(encoding="utf-8").split("\n")
    fields = [line.split() for line in lines if line.strip()]
    widths = {len(each) for each in fields}
    if widths == {1}:
        words = list(dict.fromkeys(word for (word,) in fields))
        return {word: number for number, word in enumerate(words)}
    if widths != {2} or not all(number.isdecimal() for _, number in fields):
        raise ValueError(f"vocab_file must have a word, or a word and an id, in each line: {path}")
    return {word: int(number) for word, number in fields}
