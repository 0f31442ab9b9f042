"""Confidence intervals of proportions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054  # the normal quantile of 0.975


def wilson_interval(
    positives: ArrayLike, rows: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high end of Wilson's 95 % score interval of a rate (Wilson 1927), [N] each.

    It holds for few rows and for none or only positives, where the usual one has width 0 (Brown,
    Cai and DasGupta, Statistical Science 2001). Rows count as independent.

    Args:
        positives: [N].
        rows: [N], each at least 1.
    """
    k, n = np.asarray(positives, np.float64), np.asarray(rows, np.float64)
    middle = (k + Z_95**2 / 2) / (n + Z_95**2)
    half = Z_95 / (n + Z_95**2) * np.sqrt(k * (n - k) / n + Z_95**2 / 4)
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)
