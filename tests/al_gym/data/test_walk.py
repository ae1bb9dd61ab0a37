"""What is below a folder: hidden files, patterns, links."""

import os

import pytest

from al_gym.data.walk import find_files, folders_above, is_excluded, without_ending


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_stand_folder_by_folder(tmp_path):
    found = find_files(tree(tmp_path, "b/2", "a/z", "a.d/x", "b/10", "a/y/1"))
    assert found.files == ["a/y/1", "a/z", "a.d/x", "b/10", "b/2"]
    assert found.folders == ["a", "a/y", "a.d", "b"]


def test_hidden_and_system_files_are_apart(tmp_path):
    hidden = [".git/a", ".ipynb_checkpoints/a.png", "a/._1.png", "__MACOSX/a/1.png", "a/Thumbs.db"]
    found = find_files(tree(tmp_path, "a/1.png", "a/desktop.ini", *hidden))
    assert found.files == ["a/1.png"]
    assert sorted(found.hidden) == sorted(
        [".git", ".ipynb_checkpoints", "a/._1.png", "__MACOSX", "a/Thumbs.db", "a/desktop.ini"]
    )


def test_what_drives_and_servers_leave_is_apart(tmp_path):
    left = ["a/@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
    found = find_files(tree(tmp_path, "a/1.png", *[f"{name}/1.png" for name in left], ".Trashes/1"))
    assert (found.files, sorted(found.hidden)) == (["a/1.png"], sorted([*left, ".Trashes"]))


def test_patterns_match_path_or_name(tmp_path):
    names = ["a/1.png", "a/1_mask.png", "masks/1.png", "b/masks.png", "b/old/1.png"]
    found = find_files(tree(tmp_path, *names), ["*_mask.png", "masks", "b/old/*"])
    assert found.files == ["a/1.png", "b/masks.png"]
    assert found.excluded == ["a/1_mask.png", "b/old/1.png", "masks"]
    assert not is_excluded("a/1.PNG", ["*.png"])  # a pattern means the case it is written in


def test_links_inside_are_followed(tmp_path):
    tree(tmp_path, "store/1.png", "a/2.png")
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "b").symlink_to("store", target_is_directory=True)
    assert find_files(tmp_path).files == ["a/1.png", "a/2.png", "b/1.png", "store/1.png"]
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    assert len(find_files(tmp_path.parent / f"{tmp_path.name}-link").files) == 4


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("a/x.png", "../../secret.png", r"a/x.png is a link out of the folder.*secret.png"),
        ("a/x", "/etc", r"a/x is a link out of the folder, to /etc"),
        ("a/x", "..", r"a/x is a link to a folder that it is in"),
        ("a/x", ".", r"a/x is a link to a folder that it is in"),
        ("a/x.png", "gone.png", r"a/x.png is a link that leads nowhere"),
        ("a/x.png", "x.png", r"a/x.png is a link that leads nowhere"),
    ],
)
def test_links_that_lead_elsewhere_are_refused(tmp_path, link, target, message):
    tree(tmp_path, "secret.png", "root/a/1.png")
    (tmp_path / "root" / link).symlink_to(target)
    with pytest.raises(ValueError, match=message):
        find_files(tmp_path / "root")
    assert find_files(tmp_path / "root", ["x*"]).files == ["a/1.png"]


def test_two_links_in_a_circle_do_not_hang(tmp_path):
    tree(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "to_b").symlink_to("../b")
    (tmp_path / "b" / "to_a").symlink_to("../a")
    with pytest.raises(ValueError, match="a/to_b/to_a is a link to a folder that it is in"):
        find_files(tmp_path)


def test_a_pipe_is_not_opened_and_a_strange_name_is_refused(tmp_path):
    os.mkfifo(tree(tmp_path, "a/1.png") / "a" / "pipe.png")
    found = find_files(tmp_path)
    assert (found.files, found.hidden) == (["a/1.png"], ["a/pipe.png"])
    with open(os.fsencode(tmp_path) + b"/a/caf\xe9.png", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(ValueError, match=r"caf\\udce9.*rename"):
        find_files(tmp_path)


def test_parts_of_paths():
    assert folders_above("a/b/c.png") == ["a", "a/b"]
    endings = {"a/b.png": "a/b", "a.b/c.nii.gz": "a.b/c", "1.2.3": "1.2", "a.b/c": "a.b/c"}
    assert {name: without_ending(name) for name in endings} == endings
