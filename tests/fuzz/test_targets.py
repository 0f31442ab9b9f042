"""Damaged inputs give the documented error or none. `make fuzz` looks longer."""

import json

import pytest
from hypothesis import given

from tests.fuzz.targets import (
    CONFIGS,
    FOLDER,
    INDEX,
    NORMALIZERS,
    OVERRIDES,
    TARGETS,
    fuzz_settings,
    renamed,
)

WHOLE = {
    "config": [text.encode() for text in CONFIGS],
    "overrides": [text.encode() for text in OVERRIDES],
    "normalizer": [text.encode() for text in NORMALIZERS],
    "manifest": [FOLDER["_manifest.json"]],
    "index": [INDEX],
}
MANIFEST = json.loads(FOLDER["_manifest.json"])


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_is_refused_as_documented(name):
    @fuzz_settings(max_examples=40, derandomize=True)
    @given(TARGETS[name].inputs)
    def run(data):
        TARGETS[name].run(data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_a_whole_input_is_taken(name):
    assert [TARGETS[name].run(data) for data in WHOLE[name]] == [True] * len(WHOLE[name])


# What `make fuzz` found, or what it would take too long to find.
FOUND = {
    "config-nested": ("config", b"model_config { dbmtl { " + b"bottom_mlp { " * 5000),
    "config-list": ("config", b"data_config { label_fields: " + b"[" * 5000),
    "overrides-nested": ("overrides", b"[" * 100_000),
    "overrides-long-number": ("overrides", b'{"model_dir": ' + b"9" * 5000 + b"}"),
    "normalizer-nested": ("normalizer", b"method=expression,expr=" + b"(" * 5000),
    "normalizer-signs": ("normalizer", b"method=expression,expr=" + b"-" * 5000 + b"x"),
    "normalizer-powers": ("normalizer", b"method=expression,expr=x" + b"^x" * 5000),
    "normalizer-sums": ("normalizer", b"method=expression,expr=x" + b"+x" * 5000),
    "manifest-nested": ("manifest", b"[" * 100_000),
    "manifest-long-number": ("manifest", b'{"format_version": ' + b"9" * 5000 + b"}"),
    "manifest-path-up": ("manifest", renamed("../part-00000.parquet")),
    "manifest-path-absolute": ("manifest", renamed("/etc/passwd")),
}


@pytest.mark.parametrize(("name", "data"), FOUND.values(), ids=FOUND)
def test_found_inputs_are_refused(name, data):
    assert not TARGETS[name].run(data)
