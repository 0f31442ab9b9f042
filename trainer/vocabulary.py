"""The vocabulary of an id feature: the id of each value, from the config or from a file."""

from pathlib import Path
from typing import Any

DEFAULT_ID, OTHER_ID = 0, 1  # without default_bucketize_value; then words count from 2


def read_vocabulary(message: Any, default_value: str) -> tuple[dict[str, int], int, int]:
    """The id of each value, that of other values, and the number of ids (rows of the table).

    Args:
        message: an IdFeature of the config with vocab_list, vocab_dict or vocab_file.
        default_value: what takes the place of no value; empty for none.

    Raises:
        ValueError: an id is not in the table, or the file is not there or not a vocabulary.
    """
    has_own_ids = message.HasField("default_bucketize_value")
    if message.vocab_list:
        words = list(message.vocab_list)
        if not has_own_ids:
            words = [default_value, "<OOV>", *words]
        ids = {word: number for number, word in enumerate(words)}
        size = len(words)
    elif message.vocab_dict:
        ids = dict(message.vocab_dict)
        if not has_own_ids and default_value:
            ids[default_value] = DEFAULT_ID
        size = max(ids.values()) + 1
    else:
        if not has_own_ids:
            raise ValueError("vocab_file needs default_bucketize_value, but it is missing")
        ids = read_vocabulary_file(Path(message.asset_dir) / message.vocab_file)
        size = max(ids.values()) + 1
    other_id = message.default_bucketize_value if has_own_ids else OTHER_ID
    if other_id >= size:
        raise ValueError(
            f"the id of other values must be in the vocabulary's [0, {size}), but is {other_id}; "
            "set default_bucketize_value"
        )
    return ids, other_id, size


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
