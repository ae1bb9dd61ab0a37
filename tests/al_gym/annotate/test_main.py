"""The command: what it makes of its options, and what it keeps alive."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from al_gym.annotate import guide
from al_gym.annotate.__main__ import (
    RESTARTS,
    AnnotateConfig,
    Trainer,
    certificate,
    main,
    password_of,
    project_of,
)
from al_gym.annotate.project import Project
from al_gym.annotate.trainer import AGAIN, ERROR
from al_gym.data import chestct, phantoms
from tests.al_gym.annotate.projects import CLASSES, HEAD, draw_scans, labels_of, make_project


def test_a_project_is_begun_and_gone_on_with(tmp_path):
    root = draw_scans(tmp_path / "images")
    config = AnnotateConfig(
        project=tmp_path / "mine", root=root, classes=CLASSES, budget=20, query_size=4,
        set=("network=small2d", "weights=null", "image_size=12"),
    )  # fmt: skip
    begun = project_of(config)
    assert begun.settings.settings == {"network": "small2d", "weights": None, "image_size": 12}
    assert (begun.settings.budget, begun.settings.classes) == (20, CLASSES)
    assert project_of(config).settings == begun.settings
    assert project_of(AnnotateConfig(project=tmp_path / "mine")).settings == begun.settings
    with pytest.raises(ValueError, match=r"of other settings \(budget differ\)"):
        project_of(dataclasses.replace(config, budget=30))
    for option in ({"budget": 30}, {"query_size": 3}, {"set": ("image_size=9",)}):
        with pytest.raises(ValueError, match="is decided by the project in .*mine: leave it out"):
            project_of(AnnotateConfig(project=tmp_path / "mine", **option))
    assert (tmp_path / "mine").stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="--budget is decided by the demo"):
        project_of(AnnotateConfig(demo=True, budget=30))
    with pytest.raises(ValueError, match="say where the images are"):
        project_of(AnnotateConfig(project=tmp_path / "other"))
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    moved = project_of(AnnotateConfig(project=tmp_path / "mine", root=tmp_path / "elsewhere"))
    assert moved.settings == dataclasses.replace(begun.settings, root=str(tmp_path / "elsewhere"))
    assert Project(tmp_path / "mine").settings == moved.settings
    next((tmp_path / "elsewhere").rglob("*.png")).unlink()
    (tmp_path / "elsewhere").rename(root)
    with pytest.raises(ValueError, match="holds other images"):
        project_of(AnnotateConfig(project=tmp_path / "mine", root=root))
    assert Project(tmp_path / "mine").settings == moved.settings
    with pytest.raises(ValueError, match="is the folder of the images"):
        project_of(dataclasses.replace(config, project=root))


def test_the_demo_has_an_answer_key(tmp_path, monkeypatch):
    drawn = tmp_path / "drawn"
    phantoms.write_chestct(drawn, 3, 1, progress=False)
    monkeypatch.setattr("al_gym.data.phantoms.folder", lambda *_: drawn)
    demo = project_of(AnnotateConfig(demo=True, project=tmp_path / "demo"))
    assert demo.settings.key and demo.settings.dataset == "chestCT"
    entries = guide.read(demo.folder, tuple(chestct.CLASSES.values()))
    assert all(each.text and each.picture for each in entries)
    (demo.folder / "guide" / "pulmonary cord.txt").write_text("my own")
    project_of(AnnotateConfig(demo=True, project=tmp_path / "demo"))  # goes on
    assert guide.read(demo.folder, tuple(chestct.CLASSES.values()))[1].text == "my own"


def test_the_password_comes_from_a_file_the_environment_or_the_keyboard(tmp_path, monkeypatch):
    monkeypatch.delenv("AL_GYM_PASSWORD", raising=False)
    assert password_of(AnnotateConfig()) is None
    monkeypatch.setenv("AL_GYM_PASSWORD", "one")
    assert password_of(AnnotateConfig()) == "one"
    file = tmp_path / "password"
    file.write_text("two\nand more\n")
    assert password_of(AnnotateConfig(password_file=file)) == "two"
    monkeypatch.setattr("getpass.getpass", lambda prompt: "three")
    assert password_of(AnnotateConfig(password=True)) == "three"
    monkeypatch.setattr("getpass.getpass", lambda prompt: "")
    with pytest.raises(ValueError, match="empty"):
        password_of(AnnotateConfig(password=True))
    file.write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        password_of(AnnotateConfig(password_file=file))


def test_a_certificate_has_its_key(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    assert certificate(AnnotateConfig()) == {}
    with pytest.raises(ValueError, match="belong together"):
        certificate(AnnotateConfig(certfile=cert))
    with pytest.raises(ValueError, match=r"no file .*cert\.pem"):
        certificate(AnnotateConfig(certfile=cert, keyfile=key))
    cert.touch()
    key.touch()
    given = certificate(AnnotateConfig(certfile=cert, keyfile=key))
    assert given == {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}


def test_results_are_written_without_a_page(tmp_path, capsys):
    project = make_project(tmp_path / "mine", draw_scans(tmp_path / "images"))
    assert main(AnnotateConfig(project=project.folder, export=True)) == 0
    assert (project.folder / "labels.csv").is_file()
    assert f"wrote {project.folder / 'labels.csv'}" in capsys.readouterr().out


def test_the_command_names_what_is_wrong(tmp_path):
    nowhere = tmp_path / "nowhere"
    command = [sys.executable, "-m", "al_gym.annotate", "--password-file", str(nowhere)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.startswith("al_gym.annotate: ") and "nowhere" in found.stderr
    assert "Traceback" not in found.stderr
    with pytest.raises(FileNotFoundError, match="nowhere"):
        main(AnnotateConfig(project=tmp_path / "mine", root=nowhere))


class Ending:
    """A process that has ended by itself, after a look at it."""

    def __init__(self, status):
        self.returncode = status

    def poll(self):
        return self.returncode


def test_which_trainers_are_started_again(tmp_path, monkeypatch):
    """Those that were killed, a few times, and those that could not write, as often as it takes."""
    project = make_project(tmp_path / "mine", draw_scans(tmp_path / "images"))
    for statuses, n_started, told in (
        ([1, 0], 1, False),
        ([AGAIN] * 9 + [0], 10, False),
        ([-9, AGAIN] * RESTARTS + [0], 2 * RESTARTS + 1, False),
        ([-9] * (RESTARTS + 1), RESTARTS + 1, True),
    ):
        left = iter(statuses)
        started = []

        def start(command, left=left, started=started):
            started.append(command)
            return Ending(next(left))

        monkeypatch.setattr("al_gym.annotate.__main__.subprocess.Popen", start)
        watch = Trainer(project.folder)
        monkeypatch.setattr(watch._ending, "wait", lambda seconds: False)
        watch._keep_up()
        assert len(started) == n_started
        assert ("was killed" in (project.store.fact(ERROR) or "")) == told


@pytest.mark.slow
def test_a_trainer_that_is_killed_is_started_again_and_loses_nothing(tmp_path):
    project = make_project(tmp_path / "mine", draw_scans(tmp_path / "images"), settings=HEAD)
    truth, killed = labels_of(project), 0
    with Trainer(project.folder) as trainer:
        deadline = time.monotonic() + 120
        while len(project.store.settled()) < project.settings.budget:
            assert time.monotonic() < deadline
            question = project.store.next_for("Ann")
            if question is None:
                time.sleep(0.05)
                continue
            project.store.answer(question.sample, "Ann", int(truth[question.sample]), 1.0)
            if len(project.store.settled()) == 10:
                os.kill(trainer._process.pid, signal.SIGKILL)
                killed += 1
        while len(project.store.models()) <= project.plan.n_queries:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert killed == 1
    asked = [question.sample for question in Project(project.folder).store.questions()]
    assert len(asked) == len(set(asked)) == project.settings.budget
    assert trainer._process.poll() == 0
