"""One run of a network: train by the project's own trainer in this process, score, measure."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.study.datasets import Dataset, read_rows
from benchmarks.study.losses import Loss
from preprocessing.dataset_format import read_manifest
from trainer.evaluate import collect_scores, evaluates_averages
from trainer.metrics import binary_metrics
from trainer.protos.pipeline_pb2 import EasyRecConfig
from trainer.trainer import Trainer

METRICS = ("gauc", "auc", "logloss", "pcoc", "ece")


def run_config(dataset: Dataset, loss: Loss, seed: int, data: Path) -> EasyRecConfig:
    """The dataset's network with the loss; learning rates fall to 0 along a cosine."""
    config = dataset.pipeline_config()
    loss.put_into(config)
    train = config.train_config
    config.train_input_path = str(data / dataset.folder / "train_sorted")
    config.eval_input_path = str(data / dataset.folder / "eval_sorted")
    config.data_config.num_workers = 0
    train.seed, train.num_epochs = seed, dataset.num_epochs
    rows = read_manifest(config.train_input_path).statistics.rows
    steps = -(-rows // config.data_config.batch_size) * dataset.num_epochs
    for optimizer in (train.sparse_optimizer, train.dense_optimizer):
        optimizer.cosine_annealing_learning_rate.T_max = steps
    train.save_checkpoints_steps = train.log_step_count_steps = 0
    train.use_tensorboard = False
    return config


def run_network(dataset: Dataset, loss: Loss, seed: int, data: Path) -> dict[str, dict[str, float]]:
    """Metrics per task on the evaluation rows. Needs a process group of one rank."""
    config = run_config(dataset, loss, seed, data)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        config.model_dir = folder
        trainer = Trainer(config, device)
        trainer.train()
        average = trainer.optimizer.averaged() if evaluates_averages(config) else nullcontext()
        assert trainer.eval_data is not None
        with average:
            scores = collect_scores(
                config, trainer.eval_data, trainer.model, trainer.tasks, device
            ).values()
        trainer.checkpoints.close()
    rows = read_rows(Path(config.eval_input_path))
    found = {}
    for each in scores:  # of several tasks with one label the first counts
        if each.label_name not in found:
            truth = truth_of(dataset, each.label_name, rows.table)
            found[each.label_name] = measure(each.prob, each.label, each.session, truth)
    return found


def truth_of(dataset: Dataset, label: str, table: object) -> NDArray[np.float64] | None:
    """The true probability of each row; None where it is not known."""
    column = dataset.truth.get(label)
    return table[column].to_numpy() if column else None  # pyright: ignore[reportIndexIssue]


def measure(
    prob: NDArray, label: NDArray, session: NDArray, truth: NDArray | None = None
) -> dict[str, float]:
    """The study's columns.

    Args:
        prob, label, session, truth: [N].

    Returns:
        METRICS; with the truth p* also `gap`, the mean of |p - p*|, and `excess`, the mean of
        KL(p* || p) in nats: by how much LogLoss is above the best possible in expectation.
    """
    found = binary_metrics(prob, label, session)
    columns = {name: found[name] for name in METRICS}
    if truth is not None:
        p = np.clip(prob.astype(np.float64), 1e-7, 1 - 1e-7)
        divergence = truth * np.log(truth / p) + (1 - truth) * np.log((1 - truth) / (1 - p))
        columns |= {"gap": float(np.abs(p - truth).mean()), "excess": float(divergence.mean())}
    return columns
