"""Checks of the sessions that a loss is given, shared by all losses that compare rows.

Shapes: `B` rows in the batch, `S` sessions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.reduction import check_per_row


def check_sessions(
    session_ids: Tensor | None, session_offsets: Tensor | None, num_rows: int, loss_name: str
) -> tuple[Tensor | None, Tensor | None]:
    """Returns (ids, None) or (None, offsets as int64), whichever is given.

    Values on CUDA are not read: that would stop the device.

    Raises:
        ValueError: on a wrong shape, type or value, or with both or neither of the two.
    """
    if session_offsets is not None and session_ids is None:
        return None, _checked_offsets(session_offsets, num_rows)
    if session_ids is None or session_offsets is not None:
        given = "neither" if session_ids is None else "both"
        raise ValueError(
            f"{loss_name} needs exactly one of session_ids and session_offsets, but got {given}; "
            "pass session_offsets when rows of a session are adjacent, else session_ids"
        )
    check_per_row("session_ids", session_ids, num_rows)
    _check_integers("session_ids", session_ids)
    return session_ids, None


def _check_integers(name: str, values: Tensor) -> None:
    kind = values.dtype
    if kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise ValueError(f"{name} must be integers, but got {kind}; cast them with {name}.long()")


def _checked_offsets(session_offsets: Tensor, num_rows: int) -> Tensor:
    """The offsets as int64; values on CUDA are not read (that would stop the device)."""
    if session_offsets.dim() != 1 or session_offsets.shape[0] < 1:
        raise ValueError(
            "session_offsets must have shape (S + 1,) with S >= 0, but got "
            f"{tuple(session_offsets.shape)}; start with 0 and add the end of each session"
        )
    _check_integers("session_offsets", session_offsets)
    offsets = session_offsets.to(torch.int64)
    # Wrong values read outside memory below; on the CPU a look is free, where nothing is traced.
    if offsets.device.type == "cpu" and not torch.compiler.is_compiling():
        values = offsets.numpy()  # three looks cost a tenth of what they cost by tensors
        first, last = int(values[0]), int(values[-1])
        falls = int((values[1:] < values[:-1]).sum())
        if first != 0 or last != num_rows or falls:
            raise ValueError(
                f"session_offsets must rise from 0 to {num_rows}, the rows of logits, but go from "
                f"{first} to {last} and fall {falls} times; build them from the same batch"
            )
    return offsets
