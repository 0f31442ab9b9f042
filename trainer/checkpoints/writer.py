"""Writes checkpoints while training goes on, each whole or not at all.

    training thread   copy tensors | train ... train | copy tensors | train ...
    behind it                      | write .model.ckpt-8.tmp, sum up, mark, rename |

A folder `.model.ckpt-STEP.tmp` is what an interrupted write leaves; nothing ever reads it.
"""

import errno
import os
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from trainer.checkpoints.checkpoint import (
    PREFIX,
    STATE_FILE,
    FileFacts,
    Metrics,
    TrainState,
    checkpoint_path,
    facts_of,
    list_checkpoints,
    state_document,
)
from trainer.checkpoints.retention import Retention, failure_told
from trainer.faults.finite_state import nonfinite_names

MOST_NAMES = 5  # told in an error
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointError(OSError):
    """A checkpoint could not be written; the message says why, and which one is the newest."""


class CheckpointWriter:
    """Writes one checkpoint at a time, with all ranks; the next one waits for it.

    A full disk costs a checkpoint, not the training: it is told, and the one before stays. Any
    other error is raised by the next call, which ends the training.

    Args:
        model_dir: where checkpoints go, on a file system that all ranks see.
        step: of the checkpoint that training goes on from, which is not written again.
        retention: what stays when a checkpoint is complete.
        say: prints a line.
    """

    def __init__(
        self,
        model_dir: Path,
        step: int | None,
        retention: Retention,
        say: Callable[[str], None],
    ) -> None:
        self._model_dir, self._last_step = model_dir, step
        self._retention, self._say = retention, say
        # Its own: collectives of two threads in one group would take each other's messages.
        self._group: Any = dist.new_group(backend="gloo")
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._is_first = dist.get_rank() == 0
        if self._is_first:
            for leftover in model_dir.glob(f".{PREFIX}*.tmp"):
                with failure_told(f"{leftover} could not be deleted", say):
                    shutil.rmtree(leftover)

    def save(
        self,
        tensors: dict[str, Any],
        state: TrainState,
        documents: dict[str, str],
        metrics: Metrics | None = None,
    ) -> Path:
        """Begin to write a step's checkpoint, once the one before it is written.

        Args:
            tensors: what to save; copied before this returns.
            documents: texts to lay beside them, by file name.
        """
        final = checkpoint_path(self._model_dir, state.global_step)
        self.wait()
        if state.global_step == self._last_step:
            return final
        self._last_step = state.global_step
        unfinished = final.with_name(f".{final.name}.tmp")
        dist.barrier(group=self._group)  # what was left over is gone
        started: Any = dcp.async_save(
            tensors,
            storage_writer=_FileWriter(str(unfinished)),
            process_group=self._group,
        )
        written = getattr(started, "upload_completion", started)
        self._pending = self._thread.submit(
            self._complete, written, unfinished, final, state, documents, metrics
        )
        return final

    def check_finite(self, tensors: dict[str, Any], buffers: Collection[str], step: int) -> None:
        """Refuse what is not finite, before it is saved; all ranks together.

        Args:
            buffers: names in `tensors` of what may be infinite, but not NaN.

        Raises:
            FloatingPointError: on all ranks; the checkpoint under way is complete then.
        """
        names = nonfinite_names(tensors, buffers)
        if not names:
            return
        self.wait()
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        raise FloatingPointError(
            f"what training has moved must be finite, but after step {step} it is not: "
            f"{', '.join(names[:MOST_NAMES])}{more}; a gradient was not finite, though the loss "
            f"was. No checkpoint is written of it, the newest is {self._newest()}; lower the "
            f"learning rates, or mend what has such gradients (the logarithm or root of 0)"
        )

    def check(self) -> None:
        """Raise what went wrong with the write under way, if it has ended; does not wait."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self, must_succeed: bool = False) -> None:
        """Wait for the write under way. Raises CheckpointError.

        must_succeed: a full disk is an error too.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except (Exception, CheckpointException) as error:  # which is none
            reason, self._last_step = self._reason(error), None
            if must_succeed or not _is_no_space(error):
                raise CheckpointError(reason) from error
            self._say(f"warning: {reason}; training goes on")

    def close(self) -> None:
        """Wait for the write under way, which must succeed, and stop."""
        self.wait(must_succeed=True)
        self._thread.shutdown()

    def _complete(
        self,
        written: Future[Any],
        unfinished: Path,
        final: Path,
        state: TrainState,
        documents: dict[str, str],
        metrics: Metrics | None,
    ) -> None:
        """Wait for the tensors of all ranks; rank 0 makes a checkpoint of them.

        Raises what went wrong, on all ranks.
        """
        fault: list[OSError | None] = [None]
        try:
            written.result()
            files = self._gather_facts(unfinished)
            if self._is_first:
                fault[0] = self._finish(unfinished, final, state, files, documents, metrics)
            dist.broadcast_object_list(fault, src=0, group=self._group)
            if fault[0] is not None:
                raise fault[0]
        except BaseException:
            if self._is_first:  # room for the next one
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if self._is_first:
            self._retention.prune(self._model_dir, self._say)

    def _finish(
        self,
        unfinished: Path,
        final: Path,
        state: TrainState,
        files: FileFacts,
        documents: dict[str, str],
        metrics: Metrics | None,
    ) -> OSError | None:
        """Lay the documents beside the tensors, mark, rename; returns what went wrong."""
        try:
            for name, text in documents.items():
                _write_durably(unfinished / name, text)
                files[name] = facts_of(unfinished / name)
            _write_durably(unfinished / STATE_FILE, state_document(state, files, metrics))
            _sync_folder(unfinished)
            unfinished.rename(final)
            _sync_folder(self._model_dir)
        except OSError as error:
            return error
        return None

    def _gather_facts(self, unfinished: Path) -> FileFacts:
        """Size and checksum of the files of all ranks, on rank 0; each rank reads its own."""
        rank = dist.get_rank()
        mine = [*unfinished.glob(f"__{rank}_*.distcp")]
        mine += [unfinished / ".metadata"] if rank == 0 else []
        facts = {path.name: facts_of(path) for path in mine}
        gathered: list[Any] | None = [None] * dist.get_world_size() if rank == 0 else None
        dist.gather_object(facts, gathered, group=self._group)
        return {name: fact for each in gathered or [] for name, fact in each.items()}

    def _reason(self, error: BaseException) -> str:
        causes = _causes(error)
        return (
            f"{checkpoint_path(self._model_dir, self._last_step or 0)} could not be written: "
            f"{'; '.join(sorted({str(cause) for cause in causes}))}; the newest checkpoint is "
            f"{self._newest()}"
        )

    def _newest(self) -> str:
        found = list_checkpoints(self._model_dir)
        return found[-1].name if found else "none"


class _FileWriter(dcp.FileSystemWriter):
    """Whose errors say what the system said: PyTorch's zip writer hides that a disk is full."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = cause.__cause__ or cause.__context__
            raise cause or error from None


def _causes(error: BaseException) -> list[BaseException]:
    """What ranks met, where it was torch.distributed.checkpoint that met it."""
    if isinstance(error, CheckpointException):
        return [failure[0] for failure in error.failures.values()]
    return [error]


def _is_no_space(error: BaseException) -> bool:
    causes = _causes(error)
    return all(isinstance(cause, OSError) and cause.errno in NO_SPACE for cause in causes)


def _write_durably(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make names in a folder durable: a file's own fsync does not."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
