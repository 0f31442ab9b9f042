"""Pipeline configs of the structure of TorchEasyRec's examples: their features, groups and models.

Written from facts (names, sizes and widths of features; which fields are set), smaller in the
hidden layers. scripts/check_pipeline_configs.py tries the originals.
"""

USER = {
    "user_id": 1141730,
    "cms_segid": 98,
    "cms_group_id": 14,
    "final_gender_code": 3,
    "age_level": 8,
    "pvalue_level": 5,
    "shopping_level": 5,
    "occupation": 3,
    "new_user_class_level": 6,
}
ITEM = {
    "adgroup_id": 846812,
    "cate_id": 12961,
    "campaign_id": 423438,
    "customer": 255877,
    "brand": 461498,
}
TAOBAO = [*USER, *ITEM, "price", "pid"]
IN_SEQUENCE = ("adgroup_id", "cate_id", "brand")
CLICKS = [f"click_50_seq__{name}" for name in IN_SEQUENCE]
CRITEO_IDS = [f"cat_{i}" for i in range(26)]
CRITEO_NUMBERS = [f"int_{i}" for i in range(13)]
CCP_IDS = {"user_uid": 1474415, "user_class1_id": 490, "item_id": 15843340, "item_cateid": 43010}
CCP_WEIGHTED = {"user_shop": 5000, "user_cate": 500, "cross_user_shop_item_shopid": 5000}
CCP_NUMBERS = ["cross_shopid_score", "cross_user_score"]

BCE = "losses { binary_cross_entropy {} }"
AUC = "metrics { auc {} }"
RELATION = 'relation_tower_names: "ctr" relation_mlp { hidden_units: [16] }'


def pipeline(features: str, model: str, labels: list[str], fg_mode: str) -> str:
    """A whole config, as the examples write it."""
    names = " ".join(f'label_fields: "{label}"' for label in labels)
    mode = f"fg_mode: {fg_mode}" if fg_mode else ""
    return f"""
        train_input_path: "odps://{{PROJECT}}/tables/a_table"
        eval_input_path: "odps://{{PROJECT}}/tables/a_table/ds=20170513"
        model_dir: "experiments/a_model"
        train_config {{
            sparse_optimizer {{ adagrad_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
            dense_optimizer {{ adam_optimizer {{ lr: 0.001 }} constant_learning_rate {{}} }}
            num_epochs: 1
        }}
        eval_config {{}}
        data_config {{ batch_size: 8192 dataset_type: OdpsDataset {mode} {names} num_workers: 8 }}
        {features} model_config {{ {model} }}"""


def feature(kind: str, name: str, more: str, side: str = "") -> str:
    """One feature, with an expression where its side is given."""
    expression = f'expression: "{side}:{name}"' if side else ""
    return f'feature_configs {{ {kind} {{ feature_name: "{name}" {expression} {more} }} }}'


def group(name: str, features: list[str], kind: str = "DEEP", more: str = "") -> str:
    """One feature group."""
    names = " ".join(f'feature_names: "{each}"' for each in features)
    return f'feature_groups {{ group_name: "{name}" {names} group_type: {kind} {more} }}'


def towers(labels: list[str], more: str = "", cvr: str = "", loss: str = BCE) -> str:
    """A ctr and a cvr tower."""
    return " ".join(
        f"""task_towers {{ tower_name: "{name}" label_name: "{label}"
            mlp {{ hidden_units: [32, 16] }}
            {AUC} {loss} {more} {extra} }}"""
        for name, label, extra in zip(("ctr", "cvr"), labels, ("", cvr), strict=True)
    )


# ------------------------------------------------------------------ Taobao


def taobao(fg_mode: str, model: str, *extra_labels: str, sequence: bool = False) -> str:
    """Encoded ids (FG_NONE), or raw columns with expressions (FG_DAG)."""
    is_raw = fg_mode == "FG_DAG"
    features = []
    for side, sizes in (("user", USER), ("item", ITEM)):
        for name, size in sizes.items():
            more = f"num_buckets: {size} embedding_dim: 16"
            features.append(feature("id_feature", name, more, side if is_raw else ""))
    if is_raw:
        limits = "boundaries: [1.1, 2.2, 3.6, 5.2, 7.39, 9.5, 100, 1280, 8720] embedding_dim: 16"
        features.append(feature("raw_feature", "price", limits, "item"))
        hashed = "hash_bucket_size: 20 embedding_dim: 16"
        features.append(feature("id_feature", "pid", hashed, "context"))
    else:
        features.append(feature("id_feature", "price", "num_buckets: 101 embedding_dim: 16"))
        features.append(feature("id_feature", "pid", "num_buckets: 2 embedding_dim: 16"))
    if sequence:
        members = ""
        for name in IN_SEQUENCE:
            expression = f'expression: "item:{name}"' if is_raw else ""
            members += f"""features {{ id_feature {{ feature_name: "{name}" {expression}
                num_buckets: {ITEM[name]} embedding_dim: 16 }} }} """
        features.append(
            f"""feature_configs {{ sequence_feature {{ sequence_name: "click_50_seq"
            sequence_length: 100 sequence_delim: "|" {members} }} }}"""
        )
    labels = ["clk", "buy", *extra_labels] if "task_towers" in model else ["clk"]
    return pipeline(" ".join(features), model, labels, fg_mode)


TOWERS = towers(["clk", "buy"])
JRC = towers(
    ["clk", "buy"],
    "num_class: 2",
    RELATION,
    'losses { jrc_loss { session_name: "user_id" } }',
).replace(AUC, 'metrics { grouped_auc { grouping_key: "user_id" } }')
RELATED = towers(["clk", "buy"], cvr=RELATION)
IN_CLICKS = 'task_space_indicator_label: "clk" in_task_space_weight: 1 out_task_space_weight: 0'
ALL = group("all", TAOBAO)
WITH_SEQUENCE = group(
    "all",
    TAOBAO,
    more=group("click_50_seq", [*IN_SEQUENCE, *CLICKS])
    .replace("feature_groups", "sequence_groups")
    .replace("group_type: DEEP", "")
    + "sequence_encoders { din_encoder { attn_mlp { hidden_units: [32, 8] } } }",
)
EXPERTS = "expert_mlp { hidden_units: [32, 16] } num_expert: 3"


def extraction(name: str, experts: int, units: str, dropout: str = "") -> str:
    """One layer of PLE."""
    net = f"{{ hidden_units: {units} {dropout} }}"
    return f"""extraction_networks {{ network_name: "{name}" expert_num_per_task: {experts}
        share_num: {experts} task_expert_net {net} share_expert_net {net} }}"""


PLE = extraction("layer1", 2, "[32, 16]") + extraction("layer2", 1, "[16, 8]")
PLE_DROPOUT = extraction("layer1", 2, "[32, 16]", "dropout_ratio: [0.1, 0.1]")
TOWER = "mlp { hidden_units: [32, 16] }"


# ------------------------------------------------------------------ Criteo, Ali-CCP


def criteo(fg_mode: str, model: str, width: int = 16, hashed: bool = False) -> str:
    """13 numbers and 26 ids."""
    side = "user" if fg_mode == "FG_DAG" else ""
    scaled = 'normalizer: "method=expression,expr=log(x+3)"' if side else ""
    size = "hash_bucket_size" if hashed else "num_buckets"
    features = [feature("raw_feature", name, scaled, side) for name in CRITEO_NUMBERS]
    features += [
        feature("id_feature", name, f"{size}: 40000000 embedding_dim: {width}", side)
        for name in CRITEO_IDS
    ]
    return pipeline(" ".join(features), f"{model} {AUC} {BCE}", ["label"], fg_mode)


def ccp(model: str) -> str:
    """Hashed ids, weighted ids, numbers."""
    features = [feature("raw_feature", name, "", "user") for name in CCP_NUMBERS]
    features += [
        feature("id_feature", name, f"hash_bucket_size: {size} embedding_dim: 16", "user")
        for name, size in CCP_IDS.items()
    ]
    features += [
        feature(
            "id_feature", name, f"hash_bucket_size: {size} embedding_dim: 12 weighted: true", "user"
        )
        for name, size in CCP_WEIGHTED.items()
    ]
    everything = group("all", [*CCP_IDS, *CCP_NUMBERS, *CCP_WEIGHTED])
    labels = ["click_label", "conversion_label"]
    tasks = towers(labels, cvr="weight: 10")
    text = f"{everything} {model.replace('TOWERS', tasks)}"
    return pipeline(" ".join(features), text, labels, "FG_DAG")


SPARSE = group("dense", CRITEO_NUMBERS) + group("sparse", CRITEO_IDS)
WIDE = (
    group("wide", CRITEO_IDS, "WIDE")
    + group("fm", CRITEO_IDS)
    + group("deep", [*CRITEO_NUMBERS, *CRITEO_IDS])
)
DEEPFM = "deepfm { deep { hidden_units: [64, 32] } final { hidden_units: [16] } }"
WUKONG_LAYER = """wukong_layers { lcb_feature_num: 16 fmb_feature_num: 16
    compressed_feature_num: 24 feature_num_mlp { hidden_units: 32 } }"""
MASKS = """n_mask_blocks: 3 mask_block { reduction_ratio: 3 hidden_dim: 32 } use_parallel: true
    top_mlp { hidden_units: [32, 16] }"""

CONFIGS = {
    "dbmtl_taobao_jrc": taobao(
        "FG_NONE", f"{ALL} dbmtl {{ bottom_mlp {{ hidden_units: [64] }} {JRC} }}"
    ),
    "dbmtl_taobao": taobao(
        "FG_DAG", f"{ALL} dbmtl {{ bottom_mlp {{ hidden_units: [64] }} {RELATED} }}"
    ),
    "dbmtl_taobao_seq": taobao(
        "FG_NONE",
        f"{WITH_SEQUENCE} dbmtl {{ bottom_mlp {{ hidden_units: [64] }} {RELATED} }}",
        sequence=True,
    ),
    "mmoe_taobao": taobao(
        "FG_DAG", f"{ALL} mmoe {{ {EXPERTS} {towers(['clk', 'buy'], cvr=IN_CLICKS)} }}"
    ),
    "mmoe_taobao_seq": taobao(
        "FG_NONE", f"{WITH_SEQUENCE} mmoe {{ {EXPERTS} {TOWERS} }}", sequence=True
    ),
    "ple_taobao": taobao("FG_DAG", f"{ALL} ple {{ {PLE} {TOWERS} }}"),
    "ple_taobao_seq": taobao("FG_NONE", f"{WITH_SEQUENCE} ple {{ {PLE} {TOWERS} }}", sequence=True),
    "multi_tower_taobao": taobao(
        "FG_DAG",
        f"""{group("user", [*USER, "pid"])} {group("item", [*ITEM, "price"])}
        multi_tower {{ towers {{ input: 'user' {TOWER} }} towers {{ input: 'item' {TOWER} }}
                       final {{ hidden_units: [16] }} }} {AUC} {BCE}""",
    ),
    "multi_tower_din_taobao": taobao(
        "FG_DAG",
        f"""{group("deep", TAOBAO)} {group("seq", [*IN_SEQUENCE, *CLICKS], "SEQUENCE")}
        multi_tower_din {{ towers {{ input: 'deep' {TOWER} }}
            din_towers {{ input: 'seq' attn_mlp {{ hidden_units: [32, 8] }} }}
            final {{ hidden_units: [16] }} }} {AUC} {BCE}""",
        sequence=True,
    ),
    "pepnet_taobao": taobao(
        "FG_DAG",
        f"""{ALL} {group("domain", ["occupation"])}
        {group("uia", [name for name in TAOBAO if name not in ("occupation", "pid", "customer")])}
        pepnet {{ domain_input_name: 'occupation' task_domain_num: 3 ppnet_hidden_units: [32, 16]
                  ppnet_dropout_ratio: [0.1, 0.1] {towers(["clk", "buy"], cvr=IN_CLICKS)} }}""",
        "occupation",
    ),
    "deepfm_criteo": criteo("FG_NONE", f"{WIDE} {DEEPFM}"),
    "dlrm_criteo": criteo(
        "FG_DAG",
        f"""{SPARSE} dlrm {{ dense_mlp {{ hidden_units: 64 hidden_units: 16 }}
        final {{ hidden_units: 64 hidden_units: 32 }} arch_with_sparse: true }} num_class: 1""",
    ),
    "dlrm_criteo_dense_only": criteo(
        "FG_DAG",
        f"""{SPARSE} dlrm {{ dense_mlp {{ hidden_units: 32 }} final {{ hidden_units: 64 }}
        arch_with_sparse: false }} num_class: 1""",
        width=32,
    ),
    "masknet_criteo": criteo(
        "FG_DAG",
        f"""{group("all_features", [*CRITEO_NUMBERS, *CRITEO_IDS])}
        mask_net {{ mask_net_module {{ {MASKS} }} }}""",
        width=4,
        hashed=True,
    ),
    "wukong_criteo": criteo(
        "FG_DAG",
        f"""{SPARSE} wukong {{ dense_mlp {{ hidden_units: 64 hidden_units: 32 }}
        {WUKONG_LAYER} {WUKONG_LAYER} final {{ hidden_units: 64 hidden_units: 32 }} }}
        num_class: 1""",
    ),
    "dbmtl_ccp": ccp("dbmtl { bottom_mlp { hidden_units: [64] } TOWERS }").replace(
        "weight: 10", f"weight: 10 {RELATION}"
    ),
    "mmoe_ccp": ccp(f"mmoe {{ {EXPERTS} TOWERS }}"),
    "ple_ccp": ccp(f"ple {{ {PLE_DROPOUT} TOWERS }}"),
}
