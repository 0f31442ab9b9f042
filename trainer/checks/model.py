"""A model's own message: rules between its fields, and fields without effect."""

from typing import Any

from trainer.checks.groups import WITH_WIDE_GROUPS
from trainer.config import ConfigError
from trainer.protos import pipeline_pb2 as pb


def check_model(config: pb.EasyRecConfig) -> None:
    """Rules that the layers cannot check themselves. Raises ConfigError."""
    model = config.model_config
    kind = model.WhichOneof("model") or ""
    net: Any = getattr(model, kind)
    if kind in WITH_WIDE_GROUPS and net.wide_embedding_dim < 1:
        raise ConfigError(f"{kind}.wide_embedding_dim must be positive, but got: 0")
    adds_to_logits = kind in ("wide_and_deep", "deepfm") and not net.HasField("final")
    if adds_to_logits and model.num_class > 1:
        raise ConfigError(
            f"{kind}: num_class must be 1 without `final`, but is {model.num_class}: what is added "
            f"to every class's logit has no effect; set {kind}.final"
        )
    if kind == "pepnet" and net.domain_input_name:
        labels = list(config.data_config.label_fields)
        if net.domain_input_name not in labels:
            raise ConfigError(
                f"pepnet.domain_input_name must be one of data_config.label_fields "
                f"({', '.join(labels)}), but got: `{net.domain_input_name}`"
            )
        if net.task_domain_num < 1:
            raise ConfigError("pepnet.task_domain_num must be positive, but got: 0")


def unused_in_model(model: pb.ModelConfig) -> str:
    """A field of the model's message without effect, and why; empty if there is none."""
    kind = model.WhichOneof("model") or ""
    net: Any = getattr(model, kind)
    groups = {group.group_name for group in model.feature_groups}
    idle: list[tuple[str, str]] = []  # field, why
    if kind == "dbmtl" and not net.HasField("expert_mlp"):
        why = "without expert_mlp there are no experts"
        idle = [("gate_mlp", why), ("num_expert", why)]
    if kind in ("dlrm", "wukong") and "dense" not in groups:
        idle = [("dense_mlp", "there is no feature group `dense`")]
    types = [group.group_type for group in model.feature_groups]
    if kind == "custom" and pb.WIDE not in types:
        why = "there is no feature group of type WIDE"
        idle = [("wide_embedding_dim", why), ("wide_init_fn", why)]
    if kind == "pepnet":
        if "domain" not in groups:
            why = "there is no feature group `domain`"
            idle += [("epnet_hidden_unit", why), ("epnet_gamma", why)]
        if "uia" not in groups:
            why = "there is no feature group `uia`"
            fields = [each.name for each in net.DESCRIPTOR.fields]
            idle += [(name, why) for name in fields if name.startswith("ppnet")]
        if not net.domain_input_name:
            idle.append(("task_domain_num", "there is no domain_input_name"))
    present = {field.name for field, _ in net.ListFields()}
    return next((f"{kind}.{name}: {why}" for name, why in idle if name in present), "")
