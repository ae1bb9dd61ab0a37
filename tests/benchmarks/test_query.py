"""Which images to label next: the list, what is said of it, and what is refused."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import query
from benchmarks.query import QueryConfig
from tests import images_as_folders
from tests.samples import make_dataset

LABELLED = {0, 1, 2, 30, 31, 32, 60, 61, 62}
"""Three of the 28 training images of each class; so 75 are not labelled."""
FAST = ("learning_rate=0.02", "pretrain_passes=3")


@pytest.fixture(scope="module")
def data():
    return images_as_folders.drawn(126)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """One folder and a label csv, in which most training images have no label."""
    root = tmp_path_factory.mktemp("query") / "images"
    n_train = int((data.sides == "train").sum())
    assert n_train == 84
    images_as_folders.write_csv(data, root, frozenset(set(range(n_train)) - LABELLED))
    return root


def listed(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_list_is_what_the_method_would_ask_for(data, folder, tmp_path, capsys):
    out = tmp_path / "lists" / "next.csv"
    assert query.main(QueryConfig(folder, n=7, out=out, set=FAST)) == 0
    rows = listed(out)
    assert tuple(rows[0]) == query.COLUMNS
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 8)]
    env = query.environment(QueryConfig(folder, n=7, set=FAST))
    softmax, info = env.reset(seed=0)
    first, second = np.sort(softmax, axis=1)[:, :-3:-1].T
    margin = 1 - (first - second)
    best = np.argsort(-margin, kind="stable")[:7]
    pool = np.flatnonzero((data.sides == "train") & ~np.isin(np.arange(126), list(LABELLED)))
    assert [row["file"] for row in rows] == [data.names[pool[i]] for i in best]
    assert [int(row["predicted"]) for row in rows] == softmax[best].argmax(1).tolist()
    probability = [float(row["probability"]) for row in rows]
    np.testing.assert_allclose(probability, first[best], atol=5e-5)
    np.testing.assert_allclose([float(row["score"]) for row in rows], margin[best], atol=5e-7)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "9 images are labelled: 0 3, 1 3, 2 3. 75 are not."
    assert said[1] == (
        f"The classifier trained on them has macro F1 {info['macro_f1']:.3f} and micro F1 "
        f"{info['micro_f1']:.3f} on 21 test images."
    )
    assert said[2] == "To label next by ms, smallest margin:"
    assert said[3].startswith(f"  1. {rows[0]['file']} (predicted: {rows[0]['predicted']}, ")
    assert said[-1] == f"{out} lists 7."


@pytest.mark.parametrize("method", ["random", "fusion", "typiclust", "drla-transfer", "drla-embed"])
def test_the_same_seed_gives_the_same_list(folder, tmp_path, method):
    lists = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"{number}.csv"
        query.main(QueryConfig(folder, method=method, n=10, out=out, set=FAST, seed=seed))
        lists.append(out.read_text())
    assert lists[0] == lists[1] != lists[2]
    assert len({row["file"] for row in listed(tmp_path / "0.csv")}) == 10


def test_labels_are_added_and_the_next_list_is_of_others(folder, tmp_path):
    """What the command is for: label what is listed, and run it again."""
    out, labels = tmp_path / "next.csv", tmp_path / "mine.csv"
    query.main(QueryConfig(folder, n=5, out=out, set=FAST))
    first = {row["file"] for row in listed(out)}
    rows = listed(folder / "labels.csv")
    with labels.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(row | {"label": "1"} if row["file"] in first else row for row in rows)
    config = QueryConfig(folder, labels=labels, n=5, out=out, set=FAST)
    with pytest.raises(ValueError, match=r"next.csv is there already: .*--overwrite"):
        query.main(config)
    assert {row["file"] for row in listed(out)} == first
    query.main(QueryConfig(folder, labels=labels, n=5, out=out, set=FAST, overwrite=True))
    assert not first & {row["file"] for row in listed(out)}


def test_fewer_than_asked_for_and_no_test_images(data, tmp_path, capsys):
    images_as_folders.write_splits(data.of("train"), tmp_path / "split")
    root = tmp_path / "split" / "train"
    (root / "1").rename(root / "unlabelled")
    out = tmp_path / "next.csv"
    query.main(QueryConfig(root, n=100, out=out, set=FAST))
    assert len(listed(out)) == 28
    said = capsys.readouterr().out
    assert "28 are not.\nThere are no test images" in said
    assert f"{out} lists 28, which are all there are." in said
    query.main(QueryConfig(root, n=3, out=tmp_path / "n.csv", set=(*FAST, "test_fraction=0.5")))
    assert "on 28 test images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "drla"}, "drla cannot choose from images whose labels nobody knows"),
        ({"method": "sb3-ppo"}, "sb3-ppo cannot choose"),
        ({"method": "eq3-oracle"}, "eq3-oracle cannot choose"),
        ({"method": "all"}, "all cannot choose .* Choose from random lc ms en fusion"),
        ({"method": "bage"}, "unknown method 'bage'.*did you mean 'badge'"),
        ({"n": 0}, "n must be at least 1"),
        ({"set": ("query_size=3",)}, "--set query_size is not for benchmarks.query"),
        ({"set": ("budget=3",)}, "--set budget is not for benchmarks.query"),
        ({"set": ("learning_rate=fast",)}, "learning_rate must be a number"),
    ],
)
def test_what_is_refused(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        query.main(QueryConfig(folder, out=tmp_path / "next.csv", **changes))
    assert not list(tmp_path.iterdir())


def test_everything_labelled_and_nothing_labelled(data, tmp_path):
    images_as_folders.write_splits(data, tmp_path / "all")
    with pytest.raises(ValueError, match="every training image is labelled"):
        query.main(QueryConfig(tmp_path / "all", out=tmp_path / "next.csv"))
    reader = ("reader=tests.benchmarks.test_query:read_unlabelled",)
    with pytest.raises(ValueError, match="no training image is labelled.*a few of each class"):
        query.main(QueryConfig(tmp_path / "all", out=tmp_path / "next.csv", set=reader))
    labels = {
        "labels": tmp_path / "labels.csv",
        "set": reader,
    }  # of which this reader knows nothing
    with pytest.raises(TypeError, match="unexpected keyword argument 'labels'"):
        query.main(QueryConfig(tmp_path / "all", out=tmp_path / "next.csv", **labels))


def read_unlabelled(root):
    """A reader of one's own whose data set has no label but those of the test images."""
    images = make_dataset(n_train=20)
    return replace(images, labels=np.where(np.arange(50) < 20, -1, images.labels))


def test_the_command_line(folder, tmp_path, as_program, capsys):
    words = ["--root", str(folder), "--n", "4", "--out", str(tmp_path / "next.csv"), "--set", *FAST]
    assert as_program(query, *words) == 0
    assert "75 are not." in capsys.readouterr().out and len(listed(tmp_path / "next.csv")) == 4
    said = as_program(query, *words)
    assert re.match(r"benchmarks.query: .*next.csv is there already", said)
