"""Which features do not change within the sessions of a batch, found by the loader."""

import numpy as np
from torchrec import KeyedJaggedTensor

from trainer.data.plan import Int64Array


def session_features(ids: KeyedJaggedTensor, session_offsets: Int64Array) -> frozenset[str]:
    """The keys with one id in each row, the same in all rows of a session.

    No key where each row is a session of its own: there is nothing to save.

    Args:
        ids: B rows, on the CPU.
        session_offsets: [S + 1], from 0 to B.
    """
    keys, num_rows = ids.keys(), ids.stride()
    if num_rows == len(session_offsets) - 1:
        return frozenset()
    lengths = ids.lengths().numpy().reshape(len(keys), num_rows)
    ends = np.cumsum(lengths.sum(axis=1))
    within = np.ones(max(num_rows - 1, 0), dtype=bool)  # whether a row and its next are of one
    within[session_offsets[1:-1] - 1] = False
    found = []
    for key, of_rows, end in zip(keys, lengths, ends.tolist(), strict=True):
        if (of_rows == 1).all():
            values = ids.values()[end - num_rows : end].numpy()  # [B]
            if not ((values[1:] != values[:-1]) & within).any():
                found.append(key)
    return frozenset(found)
