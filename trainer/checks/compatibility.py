"""Fields of TorchEasyRec that are accepted at one value alone, or without effect."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from trainer.config import ConfigError, read_groups
from trainer.protos import pipeline_pb2 as pb
from trainer.tasks import Task

# By message and field: the value there may be, and what to do instead of another.
_OF_FEATURES = {
    "use_mask": (False, "thin out values in the Spark job"),
    "stub_type": (False, "remove the feature, and compute in Spark what is made of it"),
    "data_type": ("FP32", "tables are float32 here"),
}
ONLY: dict[str, dict[str, tuple[Any, str]]] = {
    "IdFeature": _OF_FEATURES,
    "RawFeature": _OF_FEATURES,
    "DataConfig": {
        "sample_mask_prob": (0.0, "thin out in the Spark job, by sessions"),
        "negative_sample_mask_prob": (0.0, "there are no sampled negatives here"),
        "batch_cost_size": (0, "set batch_size"),
    },
    "ExportConfig": {"mixed_precision": ("", "what is exported computes in float32")},
}
WITHOUT_EFFECT = {
    "TrainConfig": (
        "save_checkpoints_timestamp_interval",
        "save_checkpoints_timestamps",
        "save_checkpoints_timestamp_quorum",
    ),
    "EvalConfig": ("log_step_count_steps",),
    "ExportConfig": ("cudnn_allow_tf32", "cuda_matmul_allow_tf32"),
    "DataConfig": (
        "fg_threads",
        "shuffle_buffer_size",
        "is_orderby_partition",
        "odps_data_quota_name",
        "odps_data_compression",
        "input_fields",
        "input_fields_str",
        "delimiter",
        "with_header",
        "force_base_data_group",
        "sample_cost_field",
    ),
    "SequenceFeature": ("sequence_pk",),
    "IdFeature": ("fg_value_type",),
}
OF_BUCKETS = (
    "embedding_dim",
    "embedding_name",
    "pooling",
    "embedding_constraints",
    "init_fn",
    "trainable",
)


def check_only_values(config: pb.EasyRecConfig) -> None:
    """Raises ConfigError for a field that has another value than the one it can have."""
    for message, path in _messages(config):
        for name, (value, cure) in ONLY.get(message.DESCRIPTOR.name, {}).items():
            found = getattr(message, name)
            if found != value:
                raise ConfigError(f"{path}{name} must be {value!r}, but got: {found!r}; {cure}")


def without_effect(config: pb.EasyRecConfig, tasks: list[Task]) -> list[str]:
    """The fields that are set and have no effect, by path, `[:]` in place of numbers."""
    found = []
    for message, path in _messages(config):
        idle = _idle(message)
        found += [f"{path}{field.name}" for field, _ in message.ListFields() if field.name in idle]
    used = {task.sample_weight for task in tasks}
    for name in config.data_config.sample_weight_fields:
        if name not in used:
            found.append(f"data_config.sample_weight_fields `{name}`")
    read = read_groups(config.model_config)
    for group in config.model_config.feature_groups[len(read) :]:
        found.append(f"model_config.feature_groups `{group.group_name}`")
    return list(dict.fromkeys(found))


def _idle(message: Any) -> set[str]:
    """The fields of a message that have no effect, as it is."""
    kind = message.DESCRIPTOR.name
    idle = set(WITHOUT_EFFECT.get(kind, ()))
    if kind == "RawFeature" and not message.boundaries:
        idle.update(OF_BUCKETS)
        if message.WhichOneof("dense_emb"):
            idle.discard("embedding_dim")
    if kind == "IdFeature":
        has_words = message.vocab_list or message.vocab_dict or message.vocab_file
        idle |= set() if has_words else {"default_bucketize_value"}
    if kind == "TrainConfig" and message.save_checkpoints_epochs:
        idle.add("save_checkpoints_steps")
    if kind == "DataConfig" and not message.in_order:
        idle.add("in_order")
    if kind == "ModelConfig" and message.kernel != pb.PYTORCH:
        idle.add("kernel")
    if kind == "ExportConfig" and message.exporter_type != "best":
        idle.update(("best_exporter_metric", "metric_larger_is_better"))
    return idle


def _messages(message: Message, path: str = "") -> Iterator[tuple[Message, str]]:
    """A message and all inside it, each with the path of its fields."""
    yield message, path
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        inner = f"{path}{field.name}[:]." if field.is_repeated else f"{path}{field.name}."
        for each in value if field.is_repeated else [value]:
            yield from _messages(each, inner)
