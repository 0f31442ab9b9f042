"""The ids of a config's vocabulary, by one rule for the trainer and the job.

vocab_list [a, b], default_value d      d: 0, a: 2, b: 3, any other value: 1
... with default_bucketize_value 0      a: 0, b: 1, any other value: 0
vocab_dict {a: 2, b: 2}                 d: 0, a: 2, b: 2, any other value: 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DEFAULT_ID, OTHER_ID = 0, 1  # without default_bucketize_value


def listed_ids(
    words: Sequence[str], default_value: str, other_id: int | None
) -> tuple[dict[str, int], int, int]:
    """The id of each word, that of other values, and the number of ids (rows of the table).

    Args:
        default_value: what takes the place of no value; empty for none.
        other_id: default_bucketize_value, where it is set.

    Raises:
        ValueError: the id of other values is not in the table.
    """
    if other_id is None:
        words = [default_value, "<OOV>", *words]
    ids = {word: number for number, word in enumerate(words)}
    return ids, *_other_id(other_id, len(words))


def given_ids(
    ids: Mapping[str, int], default_value: str, other_id: int | None
) -> tuple[dict[str, int], int, int]:
    """The same where the config or a file says the ids."""
    found = dict(ids)
    if other_id is None and default_value:
        found[default_value] = DEFAULT_ID
    return found, *_other_id(other_id, max(found.values()) + 1)


def _other_id(other_id: int | None, size: int) -> tuple[int, int]:
    found = OTHER_ID if other_id is None else other_id
    if found >= size:
        raise ValueError(
            f"the id of other values must be in the vocabulary's [0, {size}), but is {found}; "
            "set default_bucketize_value"
        )
    return found, size
