"""Feature groups and model fields that do not fit: each an error that names the field."""

import pytest

from tests.configs import two_task_config
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config

FEATURES = """
feature_configs { sequence_feature { sequence_name: clicks sequence_length: 5
    features { id_feature { feature_name: item num_buckets: 30 embedding_dim: 8 } } } }
feature_configs { sequence_id_feature { feature_name: views num_buckets: 30 embedding_dim: 8
                                        sequence_length: 5 } }
feature_configs { id_feature { feature_name: brands num_buckets: 9 embedding_dim: 8
                               weighted: true } }
feature_configs { id_feature { feature_name: named embedding_name: items num_buckets: 30
                               embedding_dim: 8 } }
"""
LOSS = "losses { binary_cross_entropy {} }"
TOWERS = f"task_towers {{ tower_name: a label_name: click {LOSS} }}"


def group(name: str, *features: str, more: str = "") -> str:
    names = " ".join(f"feature_names: {feature}" for feature in features)
    return f"feature_groups {{ group_name: {name} {names} {more} }}"


ALL = group("all", "user_id", "item_id")
WIDE = group("wide", "user_id", more="group_type: WIDE")
DEEP = group("deep", "user_id", "item_id")
SEQUENCE = group("seq", "item_id", "clicks__item", more="group_type: SEQUENCE")
DEEPFM = f"deepfm {{ deep {{ hidden_units: 8 }} final {{ hidden_units: 8 }} }} {LOSS}"
DLRM = f"dlrm {{ final {{ hidden_units: 8 }} dense_mlp {{ hidden_units: 8 }} }} {LOSS}"
MMOE = f"mmoe {{ expert_mlp {{ hidden_units: 8 }} {TOWERS} }}"
DIN = f"""multi_tower_din {{ towers {{ input: all }} final {{ hidden_units: 8 }}
    din_towers {{ input: seq attn_mlp {{ hidden_units: 8 }} }} }} {LOSS}"""
INNER = "sequence_groups { feature_names: item_id feature_names: clicks__item }"
ENCODER = "sequence_encoders { din_encoder { attn_mlp { hidden_units: 8 } } }"


def in_all(more: str) -> str:
    return f"{group('all', 'user_id', more=more)} {MMOE}"


FAULTS = {
    "no wide": (f"{DEEP} {DEEPFM}", "must be wide, deep and may be fm for deepfm, but got: deep"),
    "another group": (f"{WIDE} {DEEP} {ALL} {DEEPFM}", "but got: wide, deep, all"),
    "wide is deep": (
        f"{group('wide', 'user_id')} {DEEP} {DEEPFM}",
        "`wide`, and no other, must be",
    ),
    "raw in wide": (
        f"{group('wide', 'price', more='group_type: WIDE')} {DEEP} {DEEPFM}",
        "a WIDE group must have id features, but `price` is raw",
    ),
    "wide elsewhere": (
        f"{WIDE} {MMOE}",
        "group_type WIDE is for wide_and_deep, deepfm, custom, but",
    ),
    "unequal widths": (
        f"{WIDE} {group('deep', 'user_id', 'city')} {DEEPFM}",
        r"group `deep`: the features must be equally wide \(embedding_dim\), but are: 4, 8",
    ),
    "no final with classes": (
        f"{WIDE} {DEEP} deepfm {{ deep {{ hidden_units: 8 }} }} num_class: 2 "
        "losses { softmax_cross_entropy {} }",
        "deepfm: num_class must be 1 without `final`, but is 2",
    ),
    "no deep": (f"{WIDE} {DEEP} deepfm {{ }} {LOSS}", "DeepFM.deep must be set, but is missing"),
    "dense alone": (
        f"{group('dense', 'price')} {group('more', 'user_id')} {DLRM}",
        "must be sparse, dense, or one group of any name for dlrm, but got: dense, more",
    ),
    "dense_mlp for nothing": (f"{ALL} {DLRM}", "dlrm.dense_mlp: there is no feature group `dense`"),
    "sequence in a row": (
        f"{group('all', 'clicks__item')} {MMOE}",
        "`clicks__item` is a sequence, which must stand in a sequence_groups",
    ),
    "sequence group elsewhere": (
        f"{SEQUENCE} {MMOE}",
        "SEQUENCE is for multi_tower_din and custom, but",
    ),
    "no sequence": (
        f"{ALL} {group('seq', 'item_id', more='group_type: SEQUENCE')} {DIN}",
        "must have a sequence feature, but has none",
    ),
    "weighted query": (
        f"{ALL} {group('seq', 'brands', 'clicks__item', more='group_type: SEQUENCE')} {DIN}",
        "`brands` is weighted, and cannot query a sequence",
    ),
    "no query": (
        f"{ALL} {group('seq', 'clicks__item', more='group_type: SEQUENCE')} {DIN}",
        "din_encoder needs features that are no sequences, 1 to 8 wide together .*are 0 wide",
    ),
    "wide query": (
        f"{ALL} {group('seq', 'item_id', 'user_id', 'clicks__item', more='group_type: SEQUENCE')} "
        f"{DIN}",
        "1 to 8 wide together .* but they are 16 wide",
    ),
    "tower of a sequence": (
        f"{ALL} {SEQUENCE} multi_tower_din {{ towers {{ input: all }} towers {{ input: seq }}"
        f" final {{ hidden_units: 8 }} }} {LOSS}",
        "din_towers must read the SEQUENCE groups and towers the others, but `seq` is a SEQUENCE",
    ),
    "encoder without sequence": (in_all(ENCODER), r"must name one of .*\(none\), but got: ``"),
    "sequence without encoder": (in_all(INNER), "no sequence_encoders reads .* group `all`"),
    "unknown input": (
        in_all(f"{INNER} sequence_encoders {{ simple_attention {{ input: views }} }}"),
        r"simple_attention.input must name one of the sequence_groups \(all\), but got: `views`",
    ),
    "empty encoder": (in_all(f"{INNER} sequence_encoders {{ }}"), "must hold one of din_encoder"),
    "unnamed sequences": (in_all(f"{INNER} {INNER} {ENCODER}"), "each must have a group_name"),
    "pooling": (
        in_all(f"{INNER} sequence_encoders {{ pooling_encoder {{ pooling_type: max }} }}"),
        "pooling_type must be sum or mean, but got: `max`",
    ),
    "attention of unequal width": (
        in_all(
            f"{INNER.replace('item_id', 'city')} sequence_encoders {{ simple_attention {{ }} }}"
        ),
        "simple_attention needs features that are no sequences, 8 wide together",
    ),
    "no experts": (
        f"{ALL} mmoe {{ expert_mlp {{ hidden_units: 8 }} num_expert: 0 {TOWERS} }}",
        "MMoE.num_expert must be positive",
    ),
    "no extraction": (f"{ALL} ple {{ {TOWERS} }}", "extraction_networks must have at least one"),
    "experts of unequal width": (
        f"{ALL} ple {{ {TOWERS} extraction_networks {{ expert_num_per_task: 1 share_num: 1 "
        "task_expert_net { hidden_units: 8 } share_expert_net { hidden_units: 4 } } }",
        "task_expert_net and share_expert_net must end with the same hidden_units.*: 8 and 4",
    ),
    "mask without a width": (
        f"{ALL} mask_net {{ mask_net_module {{ n_mask_blocks: 1 mask_block {{ hidden_dim: 8 "
        f"reduction_ratio: 0 }} }} }} {LOSS}",
        "mask_block.reduction_ratio or aggregation_dim must give a width of at least 1",
    ),
    "mask of a negative width": (
        f"{ALL} mask_net {{ mask_net_module {{ n_mask_blocks: 1 mask_block {{ hidden_dim: 8 "
        f"aggregation_dim: 4 reduction_ratio: -1 }} }} }} {LOSS}",
        "mask_block.reduction_ratio or aggregation_dim must give a width of at least 1",
    ),
    "no mask width": (
        f"{ALL} mask_net {{ mask_net_module {{ n_mask_blocks: 1 mask_block {{ }} }} }} {LOSS}",
        "mask_block.hidden_dim must",
    ),
    "wukong of nothing": (
        f"{ALL} wukong {{ wukong_layers {{ lcb_feature_num: 2 }} final {{ hidden_units: 8 }} }} "
        f"{LOSS}",
        "wukong_layers.fmb_feature_num must be positive",
    ),
    "unknown domain": (
        f"{ALL} pepnet {{ domain_input_name: city {TOWERS} }}",
        r"domain_input_name must be one of .*label_fields \(click, buy\), but got: `city`",
    ),
    "gates for nothing": (
        f"{ALL} pepnet {{ ppnet_hidden_units: 8 {TOWERS} }}",
        "pepnet.ppnet_hidden_units: there is no feature group `uia`",
    ),
    "embedding_name": (
        f"{group('all', 'item_id', 'named')} {MMOE}",
        "embedding_name must have no dot and be no method .* but got: `items`; choose another",
    ),
    "init": (
        f"{WIDE} {DEEP} {DEEPFM.replace('final', 'wide_init_fn: uniform final')}",
        r"init_fn must be nn.init.NAME,ARGUMENT=NUMBER,.* uniform_\(a, b\), .* but got: `uniform`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_does_not_fit_is_an_error(fault):
    text, message = FAULTS[fault]
    config = two_task_config()
    config.ClearField("model_config")
    config.MergeFrom(parse_config(f"{FEATURES} model_config {{ {text} }}"))
    with pytest.raises(ConfigError, match=message):
        check_config(config)
