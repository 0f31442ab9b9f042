"""Random parts of groups and rows, the same on every rank and in each evaluation of the data."""

import numpy as np
from numpy.typing import NDArray


def is_sampled(group: NDArray, level: int) -> NDArray[np.bool_]:
    """Whether each row's group is kept at a level; all are at level 0, half of those at each."""
    if level == 0:
        return np.ones(len(group), dtype=bool)
    return hash64(group) >> np.uint64(64 - level) == 0


def hash64(group: NDArray) -> NDArray[np.uint64]:
    """A number in [0, 2^64) that tells nothing of the group (splitmix64, Steele et al. 2014)."""
    bits = group.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def row_numbers(session: NDArray) -> NDArray[np.int64]:
    """A number of each row, [N], from its session's number and its place there.

    Args:
        session: [N]; the rows of a session are all there, side by side.
    """
    starts = np.flatnonzero(np.diff(session, prepend=session[:1] - 1))
    sizes = np.diff(starts, append=len(session))
    place = np.arange(len(session)) - np.repeat(starts, sizes)
    return hash64(session).view(np.int64) + place
