"""``python -m al_gym``: what is here, and whether it works."""

import pytest

import al_gym.__main__ as program
import envs_registry
from tests.samples import draw_folder

FAST = ("image_size=12", "pretrain_passes=1", "query_size=2", "initial_fraction=0.2")


@pytest.fixture
def images(tmp_path):
    return draw_folder(tmp_path / "images")


def test_it_lists_ids_places_versions_and_extras(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AL_GYM_DATA", str(tmp_path))
    (tmp_path / "chestCT").mkdir()
    monkeypatch.setattr(program, "_is_installed", lambda package: package != "cma")
    assert program.main([]) == 0
    said = capsys.readouterr().out
    lines = {line.split(" ")[0]: line for line in said.splitlines() if line}
    assert {envs_registry.env_id(dataset) for dataset in envs_registry.DATASETS} <= set(lines)
    assert f"{tmp_path / 'chestCT'} (found)" in lines["ActiveLearning-chestCT-v0"]
    assert "(not there)" in lines["ActiveLearning-Folder-v0"]
    assert "OMP_WAIT_POLICY" in said and f"al-gym {al_gym_version()}" in said
    assert next(line for line in said.splitlines() if "extra train" in line).endswith("lacks cma")
    assert next(line for line in said.splitlines() if "strategies" in line).endswith("installed")


def al_gym_version():
    import al_gym

    return al_gym.__version__


def test_an_environment_that_works(images, capsys):
    command = ["check", "ActiveLearning-Folder-v0", f"root={images}", "budget=0.5", *FAST]
    assert program.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("finds nothing wrong") == 2
    assert "of 28 images labelled" in said and "An episode of 4 steps takes" in said


def test_a_flat_one_is_checked_as_it_is_made(images, monkeypatch, capsys):
    from stable_baselines3.common import env_checker

    shapes = []
    monkeypatch.setattr(
        env_checker, "check_env", lambda env: shapes.append(env.observation_space.shape)
    )
    command = ["check", "ActiveLearning-Folder-v0", f"root={images}", "flatten=true", *FAST]
    assert program.main(command) == 0
    assert [len(shape) for shape in shapes] == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [(["root=/nowhere"], "there is no folder"), (["querysize=3"], "did you mean 'query_size'")],
)
def test_one_that_cannot_be_made(settings, message, capsys):
    assert program.main(["check", "ActiveLearning-Folder-v0", *settings]) == 1
    assert message in capsys.readouterr().err


def test_one_that_a_checker_finds_fault_with(images, monkeypatch, capsys):
    from al_gym import ActiveLearningEnv

    def step(self, action):
        return self.observation_space.sample(), "much", False, False, {}

    monkeypatch.setattr(ActiveLearningEnv, "step", step)
    monkeypatch.setattr(program, "_costs", lambda env: "")
    command = ["check", "ActiveLearning-Folder-v0", f"root={images}", *FAST]
    assert program.main(command) == 1
    assert "checker: " in capsys.readouterr().out
