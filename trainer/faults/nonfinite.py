"""A loss that is not finite stays away from the parameters, and its rows are named.

Fused optimizers move the tables inside backward, so the look at the loss comes before it:

    on a CPU    all ranks look at each step; they raise, or leave the batch out, together
    on CUDA     a look would stop the device. The ranks' flag stays there and masks the loss, the
                gradients of the embeddings and, where batches are left out, those of the dense
                parameters. The host looks when it logs or saves, and raises then.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.data.batch import Cursor, SessionBatch
from trainer.data.reader import SessionDataset
from trainer.objective import Outputs

MOST_RANGES = 8  # of rows told in an error
MOST_UNSEEN = 1000  # steps on CUDA without a look


class Batch(NamedTuple):
    """What tells where the rows of a batch come from."""

    cursor: Cursor
    sessions: Tensor
    session_offsets: Tensor


class NonFiniteGuard:
    """Looks at every loss before backward.

    Args:
        model: whose parameters to protect.
        dense: its parameters besides the tables, whose gradients may add up over batches.
        kernels: FBGEMM's modules in it, whose outputs' gradients move the tables.
        replicated: tables of which each rank has a copy, which move after backward.
        dataset: where the rows come from.
        skip: leave such batches out, and count them, instead of raising.
        looks: whether to look at each step (CPU) or to mask and look later (CUDA).

    Attributes:
        is_finite: whether the last admitted loss is finite on all ranks: bool [], on its device.
    """

    def __init__(
        self,
        model: nn.Module,
        dense: Collection[Tensor],
        kernels: list[nn.Module],
        replicated: Collection[Tensor],
        dataset: SessionDataset,
        skip: bool,
        looks: bool,
    ) -> None:
        self._model, self._replicated, self._dataset = model, replicated, dataset
        self._skip, self._looks = skip, looks
        self.is_finite = torch.ones((), dtype=torch.bool)
        self._skipped = 0
        self._masked: list[tuple[Tensor, Tensor, Batch]] = []
        self._buffers: list[Tensor] = []
        self._is_masking = False  # not before the loss is known: PE-MTL has gradients taken then
        for kernel in kernels if not looks else ():
            kernel.register_forward_hook(self._mask_gradient)
        for parameter in dense if skip and not looks else ():
            if parameter.requires_grad:
                parameter.register_hook(self._mask)  # sees this batch's share, not the sum so far

    def before_step(self) -> None:
        """Remember what the forward pass changes: statistics of batch normalisation."""
        self._is_masking = False
        if self._skip:
            self._buffers = [buffer.clone() for buffer in self._statistics()]

    def admit(self, loss: Tensor, outputs: Outputs, batch: SessionBatch) -> Tensor | None:
        """The loss to differentiate, between forward and backward; None leaves the batch out.

        Raises:
            FloatingPointError: the loss is not finite on some rank; on all ranks, with the rows.
        """
        is_finite = torch.isfinite(loss.detach())
        rows = Batch(batch.cursor, batch.sessions, batch.session_offsets)
        everywhere = is_finite.float()
        if dist.get_world_size() > 1:
            dist.all_reduce(everywhere, dist.ReduceOp.MIN)
        self.is_finite = everywhere > 0
        if not self._looks:
            self._is_masking = True
            self._masked.append((self.is_finite, is_finite, rows))
            if len(self._masked) >= MOST_UNSEEN:
                self._skipped = self.look()
            if self._skip:
                self._restore(self.is_finite)
                for values in (outputs.losses, outputs.predictions):
                    values.update({name: self._mask(value) for name, value in values.items()})
            return self._mask(loss)
        if self.is_finite.item():
            return loss
        if not self._skip:
            raise FloatingPointError(self._describe(rows, is_finite, outputs))
        self._skipped += 1
        self._restore(self.is_finite)
        outputs.losses = {name: torch.zeros_like(sums) for name, sums in outputs.losses.items()}
        return None

    def after_backward(self) -> None:
        """Mask the gradients of replicated tables on CUDA; they are those of this batch alone."""
        if not self._looks:
            for table in self._replicated:
                if table.grad is not None:
                    table.grad.masked_fill_(~self.is_finite, 0)

    def look(self) -> int:
        """Batches left out since the last look. Waits for the device; all ranks together.

        Raises:
            FloatingPointError: as `admit`, of the steps since the last look.
        """
        masked, self._masked = self._masked, []
        skipped, self._skipped = self._skipped, 0
        if masked:
            finite = torch.stack([flag for flag, _, _ in masked]).tolist()
            if not self._skip and not all(finite):
                _, is_finite, rows = masked[finite.index(False)]
                raise FloatingPointError(self._describe(rows, is_finite, None))
            skipped += finite.count(False)
        return skipped

    # -------------------------------------------------------------- masks

    def _mask(self, values: Tensor) -> Tensor:
        if not self._is_masking:
            return values
        return torch.where(self.is_finite, values, torch.zeros_like(values))

    def _mask_gradient(self, _: nn.Module, __: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(self._mask)

    def _statistics(self) -> list[Tensor]:
        return [buffer for buffer in self._model.buffers() if buffer.is_floating_point()]

    def _restore(self, is_finite: Tensor) -> None:
        for buffer, before in zip(self._statistics(), self._buffers, strict=True):
            buffer.copy_(torch.where(is_finite, buffer, before))

    # -------------------------------------------------------------- names

    def _describe(self, batch: Batch, is_finite: Tensor, outputs: Outputs | None) -> str:
        """The same message on all ranks, with the rows of those whose loss is not finite."""
        mine = None if is_finite.item() else self._rows(batch, outputs)
        told: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(told, mine)
        rows = "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(told) if text)
        cursor = batch.cursor
        return (
            f"the loss must be finite, but is not in epoch {cursor.epoch}, batch {cursor.step} "
            f"({rows}); lower the learning rates, mend these rows, or leave such batches out by "
            f"train_config.skip_nonfinite_batches"
        )

    def _rows(self, batch: Batch, outputs: Outputs | None) -> str:
        """Files and rows of the predictions that are not finite; all of the batch if none is."""
        offsets, sessions = batch.session_offsets.cpu(), batch.sessions.cpu()
        session = torch.repeat_interleave(torch.arange(len(sessions)), offsets.diff())  # [B]
        place = torch.arange(len(session)) - offsets[session]  # of each row in its session, [B]
        chosen = torch.zeros(len(session), dtype=torch.bool)
        for prediction in outputs.predictions.values() if outputs else ():
            finite = torch.isfinite(prediction.cpu()).reshape(len(session), -1)  # [B, classes]
            chosen |= ~finite.all(1)
        if not chosen.any():
            chosen[:] = True
        rows: dict[str, list[int]] = {}
        for number, offset in zip(
            sessions[session[chosen]].tolist(), place[chosen].tolist(), strict=True
        ):
            file, first_row = self._dataset.place_of_session(number)
            rows.setdefault(str(file), []).append(first_row + offset)
        return ", ".join(f"{file} {_ranges(sorted(found))}" for file, found in rows.items())


def _ranges(rows: list[int]) -> str:
    """`rows 3-5, 9` for [3, 4, 5, 9]."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    told = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    more = f" and {len(told) - MOST_RANGES} more ranges" if len(told) > MOST_RANGES else ""
    return f"rows {', '.join(told[:MOST_RANGES])}{more}"
