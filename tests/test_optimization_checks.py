"""Faults in the optimizers, schedules and precision of a config, found before work starts."""

import pytest

from tests.configs import two_task_config
from trainer.checks.config import check_config
from trainer.config import ConfigError, parse_config

PART = 'part_optimizers { regex_pattern: ".*bias" sgd_optimizer {} }'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sparse_optimizer { adagrad_optimizer { lr: -1 } }",
            r"adagrad_optimizer.lr must not be negative, but got: -1",
        ),
        (
            "dense_optimizer { adam_optimizer { eps: nan } }",
            r"adam_optimizer.eps must not be negative, but got: nan",
        ),
        (
            "sparse_optimizer { adagrad_optimizer { max_gradient: 1 } }",
            r"adagrad_optimizer.max_gradient: gradient_clipping is not true; remove",
        ),
        (
            "sparse_optimizer { rowwise_adagrad_optimizer { weight_decay: 0.5 } }",
            r"weight_decay: FBGEMM decays with weight_decay_mode L2 or DECOUPLE alone",
        ),
        (
            "sparse_optimizer { rowwise_adagrad_optimizer { weight_decay_mode: L2 } }",
            r"weight_decay_mode: weight_decay is 0; remove the field, or set the other",
        ),
        (
            "sparse_optimizer { exponential_decay_learning_rate {} }",
            r"^train_config.sparse_optimizer: ExponentialDecayLR.decay_size must be positive",
        ),
        (
            "dense_optimizer { cosine_annealing_learning_rate {} }",
            r"^train_config.dense_optimizer: CosineAnnealingLR.T_max must be positive",
        ),
        (
            'dense_optimizer { part_optimizers { regex_pattern: "(" sgd_optimizer {} } }',
            r"part_optimizers\[0\].regex_pattern must be a regular expression .*: `\(`",
        ),
        (
            f"dense_optimizer {{ {PART} part_optimizers {{ sgd_optimizer {{}} }} }}",
            r"part_optimizers\[1\].regex_pattern must be .*: ``",
        ),
        (
            'dense_optimizer { part_optimizers { regex_pattern: "a" } }',
            r"part_optimizers\[0\] must name an optimizer",
        ),
        (
            f"dense_optimizer {{ {PART[:-2]} manual_step_learning_rate {{}} }} }}",
            r"part_optimizers\[0\]: ManualStepLR must have a learning_rates for each",
        ),
        ("dense_optimizer { ema { decay: 1.5 } }", r"ema.decay must be from 0 to 1, but got: 1.5"),
        (
            'mixed_precision: "bf16"',
            r'mixed_precision must be "BF16" or "FP16", but got: `bf16`; remove',
        ),
        ("grad_scaler { init_scale: 0 }", r"init_scale must be positive, but got: 0"),
        ("grad_scaler { growth_factor: 1 }", r"growth_factor must be above 1, but got: 1"),
        ("grad_scaler { backoff_factor: 1 }", r"backoff_factor must be between 0 and 1"),
        ("grad_scaler { growth_interval: 0 }", r"growth_interval must be positive, but got: 0"),
        (
            'grad_clipping { clipping_type: "NORMS" }',
            r"clipping_type must be one of norm, value, none, but got: `NORMS`",
        ),
        ("grad_clipping { max_gradient: 0 }", r"max_gradient must be positive, but got: 0"),
        ("grad_clipping { norm_type: 0 }", r"norm_type must be positive, but got: 0"),
    ],
)
def test_faults_are_found_before_work_starts(text, message):
    config = two_task_config()
    config.MergeFrom(parse_config(f"train_config {{ {text} }}"))
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_evaluation_cannot_use_averages_that_training_does_not_keep():
    config = two_task_config(eval_config__use_dense_ema=True)
    with pytest.raises(ConfigError, match="use_dense_ema: training keeps no averages; set"):
        check_config(config)


@pytest.mark.parametrize("kind", ["adadelta", "rmsprop"])
def test_tables_have_no_optimizer_that_torchrec_lacks(kind):
    text = f"train_config {{ sparse_optimizer {{ {kind}_optimizer {{}} }} }}"
    with pytest.raises(ConfigError, match=rf"field `{kind}_optimizer` of SparseOptimizer is unk.*"):
        parse_config(text)


def test_all_that_is_declared_passes():
    config = two_task_config()
    text = """train_config {
        sparse_optimizer {
            partial_rowwise_lamb_optimizer { gradient_clipping: true max_gradient: 2 }
            cosine_annealing_warm_restarts_learning_rate { T_0: 5 }
        }
        dense_optimizer {
            rmsprop_optimizer {} manual_step_learning_rate { schedule_sizes: 1 learning_rates: 1 }
            part_optimizers { regex_pattern: ".*bias" adadelta_optimizer {} }
            ema {}
        }
        mixed_precision: "FP16" grad_scaler {}
        grad_clipping { clipping_type: "value" enable_global_grad_clip: true }
    } eval_config { use_dense_ema: true }"""
    config.MergeFrom(parse_config(text))
    check_config(config)
