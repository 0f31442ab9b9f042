"""Flags that several launchers have; their names are TorchEasyRec's."""

import argparse


def add_run_flags(parser: argparse.ArgumentParser, edits_example: str) -> None:
    """The flags that name a trained model (trainer/checkpoints/restore.py: find_run)."""
    parser.add_argument("--pipeline_config_path", help="default: pipeline.config in the checkpoint")
    parser.add_argument(
        "--checkpoint_path",
        help="a checkpoint, or a model folder, of which the newest undamaged one is taken; "
        "default: the config's model_dir",
    )
    parser.add_argument("--edit_config_json", help=f"overrides, for instance {edits_example}")


def names(text: str) -> list[str]:
    """The names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
