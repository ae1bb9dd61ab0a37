"""Decoding happens once, and a failure leaves nothing behind."""

import threading
from pathlib import Path

import numpy as np
import pytest

from al_gym.data import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AL_GYM_CACHE", str(tmp_path))
    return tmp_path


def counted(calls):
    def decode(i):
        calls.append(i)
        return np.full((1, 2, 2), i, np.uint8)

    return decode


def test_the_second_reading_decodes_nothing():
    calls = []
    first, n_first = cache.decoded("x-1", 20, (1, 2, 2), counted(calls))
    second, n_second = cache.decoded("x-1", 20, (1, 2, 2), counted(calls))
    assert (n_first, n_second) == (20, 0)
    assert sorted(calls) == list(range(20))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[:, 0, 0, 0], np.arange(20))


def test_large_arrays_stay_on_disk_and_can_be_written_to_without_changing_it(folder, monkeypatch):
    monkeypatch.setattr(cache, "MAPPED_BYTES", 100)
    images, _ = cache.decoded("x-1", 20, (1, 2, 2), counted([]))
    assert isinstance(images, np.memmap) and images.flags.writeable
    images[:] = 7
    again, n_files = cache.decoded("x-1", 20, (1, 2, 2), counted([]))
    np.testing.assert_array_equal(again[:, 0, 0, 0], np.arange(20))
    assert n_files == 0


def test_the_key_changes_with_content_and_settings():
    keys = {
        cache.cache_key("x", content, settings)
        for content in (b"a", b"b")
        for settings in ({"size": 1}, {"size": 2})
    }
    assert len(keys) == 4
    assert cache.cache_key("x", b"a", {"p": 1, "q": 2}) == cache.cache_key(
        "x", b"a", {"q": 2, "p": 1}
    )


def test_an_image_that_cannot_be_decoded_leaves_nothing(folder):
    def decode(i):
        if i == 3:
            raise ValueError("image 3 is broken")
        return np.zeros((1, 2, 2), np.uint8)

    with pytest.raises(ValueError, match="image 3"):
        cache.decoded("x-1", 5, (1, 2, 2), decode)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_damaged_file_is_decoded_again_with_a_warning(folder):
    calls = []
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    path = folder / "decoded" / "x-1.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="damaged"):
        again, _ = cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8
    np.testing.assert_array_equal(again[:, 0, 0, 0], np.arange(4))
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8


def test_another_process_may_have_been_faster(tmp_path):
    target = tmp_path / "folder"
    with cache.atomic_path(target) as unfinished:
        unfinished.mkdir()
        (unfinished / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_there_before_all_is_there(tmp_path):
    target = tmp_path / "file"
    with pytest.raises(KeyboardInterrupt), cache.atomic_path(target) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_work_is_spread_over_threads():
    together = threading.Barrier(2, timeout=20)
    cache.in_threads(lambda _: together.wait() and None, 2, "waiting")


def test_the_folder_is_the_users_choice(monkeypatch, folder):
    assert cache.cache_folder() == folder
    monkeypatch.delenv("AL_GYM_CACHE")
    assert cache.cache_folder().name == "al_gym"
