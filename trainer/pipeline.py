"""Works ahead on the next batches while one is trained: TorchRec's TrainPipelineSparseDist.

    batch i        forward, backward, dense optimizer                    default stream
    batch i + 1    its ids go to the ranks that have their rows          input-dist stream
    batch i + 2    host -> device                                        copy stream

Batches are trained in their order with the parameters they would have had without it, so the
results are the same. A batch carries its own place in the plan: those in flight are not trained
yet, and resuming reads them again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.distributed.train_pipeline.utils import _override_input_dist_forwards

from trainer.data.batch import SessionBatch
from trainer.models.embeddings import EmbeddingTables
from trainer.objective import Outputs

Forward = Callable[[SessionBatch], tuple[Tensor | None, Outputs]]
Backward = Callable[[SessionBatch, Tensor | None], None]


class SparseDistPipeline(TrainPipelineSparseDist[SessionBatch, Any]):
    """The steps of training, with the next batches on their way.

    Args:
        tables: of the sharded model.
        forward: the loss of a batch on the device; None leaves the batch out.
        backward: what follows, all that moves parameters.
    """

    def __init__(
        self, tables: EmbeddingTables, forward: Forward, backward: Backward, device: torch.device
    ) -> None:
        def forward_with_batch(batch: Any) -> Any:
            loss, outputs = forward(batch)
            return loss, (batch, outputs)

        optimizer: Any = _Nothing()
        super().__init__(
            _Collections(tables), optimizer, device, custom_model_fwd=forward_with_batch
        )
        self._tables, self._on_backward = tables, backward

    def steps(self, batches: Iterator[SessionBatch]) -> Iterator[tuple[SessionBatch, Outputs]]:
        """Train on each batch; gives it, on the device, and what came of it."""
        while True:
            try:
                step = self.progress(batches)
            except StopIteration:
                return
            yield step

    def stop(self) -> None:
        """Wait for what is on its way, forget it, and leave the tables; all ranks together."""
        for context in self.contexts:
            for request in context.input_dist_tensors_requests.values():
                request.wait()
        self.reset()
        self.detach()

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """In here the tables look up what they are given; the batches on their way stay so."""
        if not self._model_attached:  # stopped
            yield
            return
        forwards = [module.forward for module in self._pipelined_modules]
        self.detach()
        try:
            yield
        finally:
            for module, forward in zip(self._pipelined_modules, forwards, strict=True):
                module.forward = forward
            self._original_kjt_dist_forwards = _override_input_dist_forwards(
                self._pipelined_modules
            )
            self._model_attached = True

    # -------------------------------------------------------------- TorchRec's stages

    def copy_batch_to_gpu(self, dataloader_iter: Iterator[SessionBatch]) -> Any:
        """TorchRec's copy, and what the tables will be asked, on the same stream."""
        batch, context = super().copy_batch_to_gpu(dataloader_iter)
        if batch is not None:
            stream: Any = self._memcpy_stream
            with self._stream_context(stream):
                batch = self._tables.with_asked(batch)
        return batch, context

    def _backward(self, losses: Any) -> None:
        batch: Any = self.batches[0]
        self._on_backward(batch, losses)


class _Collections(nn.Module):
    """What TorchRec traces to learn what each collection is asked for, in the model's place."""

    def __init__(self, tables: EmbeddingTables) -> None:
        super().__init__()
        found = tables.collections()
        self.names, self.collections = list(found), nn.ModuleList(found.values())

    def forward(self, batch: Any) -> list[Any]:
        """Each collection's answer; never called but by the tracer."""
        pairs = zip(self.names, self.collections, strict=True)
        return [collection(batch.asked[name]) for name, collection in pairs]


class _Nothing:
    """The optimizer that TorchRec's pipeline wants: `backward` has done what is due."""

    def zero_grad(self) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""
