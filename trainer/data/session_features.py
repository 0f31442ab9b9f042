"""Which features do not change within the sessions of a batch, found by the loader."""

import numpy as np
from torchrec import KeyedJaggedTensor

from trainer.data.plan import Int64Array


def session_features(ids: KeyedJaggedTensor, session_offsets: Int64Array) -> frozenset[str]:
    """The keys with one id in each row, the same in all rows of a session.

    Args:
        ids: B rows, on the CPU.
        session_offsets: [S + 1], from 0 to B.
    """
    num_rows, lengths = ids.stride(), ids.lengths().numpy()
    if (lengths != 1).any():  # multi-value or missing ids: rows would have to be found first
        return frozenset()
    values = ids.values().numpy().reshape(len(ids.keys()), num_rows)  # [K, B]
    changes = values[:, 1:] != values[:, :-1]
    changes[:, session_offsets[1:-1] - 1] = False  # from one session to the next
    return frozenset(np.asarray(ids.keys())[~changes.any(axis=1)].tolist())
