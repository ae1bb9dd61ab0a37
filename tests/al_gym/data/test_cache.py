"""Decoding happens once, and a failure leaves nothing behind."""

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from al_gym import durable
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


def write(path: Path, content: bytes, time_ns: int = 10**18) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))
    return path


def test_the_key_knows_the_files_and_the_settings(tmp_path):
    root = tmp_path / "a"
    first, second = write(root / "1", b"one"), write(root / "2", b"two")
    elsewhere = write(tmp_path / "b" / "1", b"one"), write(tmp_path / "b" / "2", b"two")

    def key(source="x", root=root, paths=(first, second), settings=None, verify=False):
        return cache.cache_key(source, root, paths, settings or {"p": 1, "q": 2}, verify)

    keys = [
        key(),
        key(source="y"),
        key(settings={"p": 1, "q": 3}),
        key(paths=[second, first]),
        key(paths=[first]),
        key(root=tmp_path),
        key(root=tmp_path / "b", paths=elsewhere),
        key(verify=True),
    ]
    keys.append(key(paths=[first, second.rename(root / "3")]))
    (root / "3").rename(second)
    assert key() == keys[0] == key(settings={"q": 2, "p": 1})
    write(second, b"two", 10**18 + 1)  # another time
    assert key(verify=True) == keys[7]
    keys.append(key())
    write(second, b"four")  # another size, at the old time
    keys.append(key())
    write(second, b"owt")  # as it was to the file system: only verify sees it
    assert key() == keys[0]
    keys.append(key(verify=True))
    assert len(set(keys)) == len(keys) == 12
    assert all(key.startswith(("x-", "y-")) for key in keys)


def test_a_root_behind_a_link_is_the_folder_that_it_leads_to(tmp_path):
    path = write(tmp_path / "a" / "1", b"one")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert cache.cache_key("x", tmp_path / "a", [path], {}) == cache.cache_key(
        "x", tmp_path / "link", [tmp_path / "link" / "1"], {}
    )
    assert cache.cache_key("x", path, [path], {}).startswith("x-")  # a file may be the root


def test_a_key_of_a_missing_file_names_it(tmp_path):
    for verify in (False, True):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            cache.cache_key("x", tmp_path, [tmp_path / "nowhere"], {}, verify)


def test_an_image_that_cannot_be_decoded_leaves_nothing(folder):
    def decode(i):
        if i == 3:
            raise ValueError("image 3 is broken")
        return np.zeros((1, 2, 2), np.uint8)

    with pytest.raises(ValueError, match="image 3"):
        cache.decoded("x-1", 5, (1, 2, 2), decode)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["x-1.lock"]


def torn(path):
    path.write_bytes(path.read_bytes()[:-5])


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path):
    path.write_bytes(b"")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def huge(path):
    """Its header asks for more memory than there is."""
    content = path.read_bytes().replace(
        b"(4, 1, 2, 2), }" + b" " * 9, b"(4, 1, 2, 9" + b"9" * 9 + b"), }"
    )
    path.write_bytes(content)


def other_facts(path):
    path.with_suffix(".json").write_text('{"size": 1}')


def torn_facts(path):
    path.with_suffix(".json").write_text('{"si')


def foreign_facts(path):
    path.with_suffix(".json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [torn, longer, empty, flipped, huge, other_facts, torn_facts, foreign_facts]
)
def test_a_damaged_file_is_decoded_again_with_a_warning(folder, damage):
    calls = []
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    damage(folder / "decoded" / "x-1.npy")
    with pytest.warns(UserWarning, match="damaged"):
        again, _ = cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8
    np.testing.assert_array_equal(again[:, 0, 0, 0], np.arange(4))
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8


def test_without_its_facts_it_was_not_written_to_the_end(folder):
    calls = []
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    (folder / "decoded" / "x-1.json").unlink()
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8


def test_of_what_is_too_large_to_be_read_whole_the_size_must_be_right(folder, monkeypatch):
    """So a flipped bit stays; that is the bound."""
    monkeypatch.setattr(cache, "MAPPED_BYTES", 10)
    calls, path = [], folder / "decoded" / "x-1.npy"
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    flipped(path)
    cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 4
    torn(path)
    with pytest.warns(UserWarning, match="damaged"):
        cache.decoded("x-1", 4, (1, 2, 2), counted(calls))
    assert len(calls) == 8


def test_what_a_killed_process_left_goes_when_the_cache_is_next_read(folder):
    """It may have been killed when its file was in place already, which nobody writes again."""
    cache.decoded("x-1", 4, (1, 2, 2), counted([]))
    dead = multiprocessing.get_context("fork").Process(target=int)
    dead.start()
    dead.join()
    left = folder / "decoded" / f".x-1.npy.{durable._machine()}.{dead.pid}.abc.tmp"
    left.mkdir()
    cache.decoded("x-1", 4, (1, 2, 2), counted([]))
    assert not left.exists()


def fill(barrier, said):
    """In a process of its own."""
    barrier.wait()
    images, n_decoded = cache.decoded("x-1", 50, (1, 40, 40), lambda i: np.full((1, 40, 40), i))
    said.put((n_decoded, int(images.sum())))


def test_eight_processes_fill_one_cache(folder):
    """One of them decodes; all have the same images, and one valid file is left."""
    forked = multiprocessing.get_context("fork")
    barrier, said = forked.Barrier(8), forked.Queue()
    started = [forked.Process(target=fill, args=(barrier, said)) for _ in range(8)]
    for process in started:
        process.start()
    found = [said.get(timeout=60) for _ in started]
    for process in started:
        process.join()
    assert sorted(n for n, _ in found) == [0] * 7 + [50]
    assert {total for _, total in found} == {40 * 40 * sum(range(50))}
    names = sorted(path.name for path in (folder / "decoded").iterdir())
    assert names == ["x-1.json", "x-1.lock", "x-1.npy"]


def test_work_is_spread_over_threads():
    together = threading.Barrier(2, timeout=20)
    cache.in_threads(lambda _: together.wait() and None, 2, "waiting")


def test_the_folder_is_the_users_choice(monkeypatch, folder):
    assert cache.cache_folder() == folder
    monkeypatch.delenv("AL_GYM_CACHE")
    assert cache.cache_folder().name == "al_gym"
