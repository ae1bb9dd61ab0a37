"""Every file in examples/ is run, as small as it can be, and does what it says."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.usefixtures("few_scans")
FOLDER = Path(__file__).resolve().parents[1] / "examples"
SMALL = {
    "compare_two_strategies": {"seeds": 2, "budget": 0.06},
    "episode_as_gif": {"budget": 32},
    "own_images": {"questions": 2},
    "own_strategy": {"seeds": 2, "budget": 0.1},
    "several_at_once": {"n": 3, "steps": 2},
    "stable_baselines3_agents": {"agents": ("td3",), "episodes": 1},
    "train_the_agent": {"episodes": 1, "budget": 23},
}
"""Settings of each example; those of CleanRL's loops are in tests/clients."""
OTHERS = sorted(path.stem for path in FOLDER.glob("cleanrl_*.py"))


def run(name, monkeypatch, **more):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module(name)
    return module, module.main(module.Settings(**SMALL[name], **more))


def test_every_example_is_run_and_listed():
    found = {path.stem for path in FOLDER.glob("*.py")}
    listed = set(re.findall(r"\]\((\w+)\.py\)", (FOLDER / "README.md").read_text()))
    assert found == listed == SMALL.keys() | set(OTHERS)


@pytest.mark.slow
def test_two_strategies_begin_alike_and_go_on_differently(monkeypatch, capsys):
    _, differences = run("compare_two_strategies", monkeypatch)
    assert len(differences) == 2 and all(d != 0 and abs(d) < 0.2 for d in differences)
    assert "mean over 2 seeds" in capsys.readouterr().out


def test_pictures_of_an_episode(monkeypatch, tmp_path):
    _, n = run("episode_as_gif", monkeypatch, out=tmp_path / "episode.gif")
    with Image.open(tmp_path / "episode.gif") as picture:
        assert picture.n_frames == n == 2
        assert np.asarray(picture.convert("L")).std() > 5


def test_own_images(monkeypatch, tmp_path, capsys):
    module, asked = run("own_images", monkeypatch)
    assert [len(names) for names in asked] == [4, 4] and len({*asked[0], *asked[1]}) == 8
    module.draw_images(tmp_path, 90)
    _, asked = run("own_images", monkeypatch, root=tmp_path)
    assert all((tmp_path / name).is_file() for names in asked for name in names)
    assert "3 classes" in capsys.readouterr().out


def test_own_strategy(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    module, page = run("own_strategy", monkeypatch, out=tmp_path / "runs")
    assert "Balanced" in page.read_text()
    observation = np.array([[0.5, 0.5], [0.6, 0.4], [0.1, 0.9], [0, 0]], np.float32)
    scores = module.Balanced().scores(observation)
    # two of the three are predicted to be of class 0: 1 - 2/3 and 1 - 1/3
    np.testing.assert_allclose(scores[0], 1 / 3, rtol=1e-6)
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    np.testing.assert_allclose(scores[2], entropy * 2 / 3, rtol=1e-5)
    assert scores[3] == 0


@pytest.mark.slow
def test_several_at_once(monkeypatch, capsys):
    _, rewards = run("several_at_once", monkeypatch)
    assert rewards.shape == (2, 3) and (rewards >= 0).all() and rewards.std() > 0
    assert "steps a second" in capsys.readouterr().out


@pytest.mark.slow
def test_agents_of_stable_baselines3(monkeypatch):
    _, found = run("stable_baselines3_agents", monkeypatch)
    assert found.keys() == {"td3"} and 0 < found["td3"] < 1


def test_the_agent_is_trained(monkeypatch, capsys):
    _, (before, after) = run("train_the_agent", monkeypatch)
    assert before != after and before[0] > 0 and after[0] > 0
    assert "after training" in capsys.readouterr().out


@pytest.mark.slow
def test_the_notebook_runs_from_beginning_to_end(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient")
    pytest.importorskip("ipykernel", reason="the notebook needs ipykernel")
    notebook = nbformat.read(FOLDER / "first_steps.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    ).execute()
    kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    said = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "macro F1" in said
