"""Every example config, its tables cut by an override, trains 20 steps on two gloo ranks."""

import pytest

from scripts.check_pipeline_configs import NUM_STEPS, main, try_configs
from tests.example_configs import CONFIGS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def losses(tmp_path_factory) -> dict[str, list[float] | str]:
    """Of each step, by config: one pair of processes trains them all."""
    folder = tmp_path_factory.mktemp("examples")
    paths = {name: folder / f"{name}.config" for name in CONFIGS}
    for name, path in paths.items():
        path.write_text(CONFIGS[name])
    found = try_configs([str(path) for path in paths.values()], folder)
    return {name: found[str(path)] for name, path in paths.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_of_each_config_falls(name, losses):
    found = losses[name]
    assert not isinstance(found, str), found
    assert len(found) == NUM_STEPS
    assert found[-1] < found[0]


def test_a_faulty_config_is_a_line_of_the_table(tmp_path, capsys):
    path = tmp_path / "faulty.config"
    path.write_text(CONFIGS["mmoe_taobao"].replace("num_expert", "num_experts"))
    assert main([str(path)]) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(str(path)) and "did you mean `num_expert`?" in line
