"""Export a checkpoint for serving: one folder with tables, network and feature encoding.

    python launch/export.py --checkpoint_path runs/demo --export_dir exported/demo

Then, in the serving process (docs/export.md):

    from trainer.serving import load_scorer
    load_scorer("exported/demo").score({"user_id": 7, "item_id": [3, 5]})
"""

import argparse
import logging
import os
import sys
import time
import warnings
from pathlib import Path

from launch.flags import add_run_flags
from launch.process import USER_ERRORS, exit_now
from trainer.checkpoints.restore import find_run
from trainer.checks.config import check_config
from trainer.config import ConfigError, check_local
from trainer.export import export_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; its flags are TorchEasyRec's, whose QUANT_EMB is a flag here."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run_flags(parser, '{"eval_config.use_dense_ema": false}')
    parser.add_argument("--export_dir", required=True, help="a folder that is not there yet")
    parser.add_argument(
        "--asset_files", default="", help="files to copy into the folder, separated by commas"
    )
    parser.add_argument(
        "--quant_emb", default="FP32", help="type of the tables: FP32, FP16 or INT8; default: FP32"
    )
    return parser.parse_args(argv)


def export_run(args: argparse.Namespace) -> None:
    """Export, and say where to."""
    started = time.monotonic()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("export needs one process; run it by python, without torchrun")
    check_local("export_dir", args.export_dir)
    run = find_run(
        args.pipeline_config_path, args.checkpoint_path, args.edit_config_json, to_export=True
    )
    check_config(run.config)
    assets = [Path(path) for path in args.asset_files.split(",") if path]
    folder = export_model(run, Path(args.export_dir), args.quant_emb, assets)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    seconds = time.monotonic() - started
    print(f"{run.checkpoint} exported in {seconds:,.1f} s: {folder}, {size / 2**20:,.1f} MiB")


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    # Of libraries about themselves; one process without a process group is what is wanted here.
    logging.getLogger("torch.fx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch|fbgemm_gpu")
    try:
        export_run(args)
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
