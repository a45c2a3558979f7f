"""Blobs: aligned, mapped privately, and checked."""

import errno
import os
import stat
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipedeco import BlobCorrupt, StoreError, blobs
from pipedeco.blobs import ALIGNMENT, HEADER, PART, BlobStore


@pytest.fixture(params=["small", "large"])
def store(request, tmp_path, monkeypatch):
    """Large blobs are written while they are hashed; here all are, or none."""
    monkeypatch.setattr(blobs, "THREADED", 1 << 40 if request.param == "small" else 0)
    return BlobStore(str(tmp_path / "blobs"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_parts_come_back_aligned(store, parts):
    """Whatever was put is got, and every part begins at a multiple of 64 bytes."""
    digest = store.put(parts)
    assert [bytes(part) for part in store.get(digest, verify=True)] == parts
    data = Path(store.path(digest)).read_bytes()
    assert len(data) == store.size(digest)
    for i, part in enumerate(parts):
        offset, size = PART.unpack_from(data, HEADER.size + i * PART.size)
        assert offset % ALIGNMENT == 0
        assert data[offset : offset + size] == part


def test_an_array_arrives_aligned_without_a_copy(store):
    """numpy finds its data at an aligned address of the mapping."""
    array = np.arange(50_000, dtype="f8").reshape(100, 500)
    _, view = store.get(store.put([b"pickle", array]))
    found = np.frombuffer(view)
    assert found.ctypes.data % ALIGNMENT == 0
    assert np.array_equal(found, array.ravel())
    assert not found.flags.owndata


def test_a_mapping_is_private(store):
    """Who changes what he got changes nobody else's, and not the file."""
    digest = store.put([bytes(1000)])
    (mine,) = store.get(digest)
    mine[0] = 7
    (other,) = store.get(digest, verify=True)
    assert (mine[0], other[0]) == (7, 0)


def test_a_name_is_the_digest_of_the_content(store):
    """The same parts have one file; other parts another; nothing else is left in the folder."""
    first, again, other = store.put([b"a", b"b"]), store.put([b"a", b"b"]), store.put([b"ab"])
    assert first == again != other
    files = [path.name for path in Path(store.folder).rglob("*") if path.is_file()]
    assert sorted(files) == sorted({first, other})


def test_blobs_are_private_to_their_user(store):
    """Folders have mode 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        path = Path(store.path(store.put([b"a"])))
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


def test_sync_returns(store):
    """A blob that is there can be synced."""
    store.sync(store.put([b"a"]))


# -- damage --------------------------------------------------------------------------------


@pytest.fixture
def damaged(store):
    """Puts a blob, has `damage` done to its file, and gives the error of reading it."""

    def read(damage, **options):
        digest = store.put([b"pickle", bytes(range(256)) * 40])
        path = Path(store.path(digest))
        damage(path)
        with pytest.raises(BlobCorrupt) as caught:
            store.get(digest, **options)
        assert str(path) in str(caught.value)
        assert "run the step again" in str(caught.value)
        return str(caught.value)

    return read


@pytest.mark.parametrize("verify", [False, True])
def test_a_missing_blob(damaged, store, verify):
    """get and size say that the file is missing."""
    assert "the file is missing" in damaged(Path.unlink, verify=verify)
    with pytest.raises(BlobCorrupt, match="the file is missing"):
        store.size("00" * 32)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 100, 5000])
def test_a_truncated_blob(damaged, length):
    """A torn file is noticed without a look at its digest."""
    damaged(lambda path: os.truncate(path, length))


@pytest.mark.parametrize("place", [200, 8000])
def test_a_flipped_bit_is_found_by_its_digest(damaged, place):
    """With verify=True one wrong bit is enough."""

    def flip(path):
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)

    assert "its content is not what was written" in damaged(flip, verify=True)


def test_a_foreign_file(damaged):
    """A file that is no blob is told as one."""
    assert "not a blob" in damaged(lambda path: path.write_bytes(b"x" * 500))


def test_a_table_that_points_outside(damaged):
    """A header whose parts reach beyond the file is damage, not a short value."""

    def widen(path):
        data = bytearray(path.read_bytes())
        struct.pack_into("<Q", data, HEADER.size + PART.size + 8, 1 << 40)
        path.write_bytes(data)

    damaged(widen)


# -- what is there already ------------------------------------------------------------------


def test_what_is_there_is_not_written_again(store, monkeypatch):
    """The file stays the one that it was, but is young again for whoever collects."""
    digest = store.put([b"a" * 70_000])
    os.utime(store.path(digest), (0, 0))
    before = os.stat(store.path(digest))
    with monkeypatch.context() as patch:
        patch.setattr(blobs, "_write", None)
        assert store.put([b"a" * 70_000]) == digest
    if blobs.THREADED == 0:  # another process does not know the size, and writes it aside
        assert BlobStore(store.folder).put([b"a" * 70_000]) == digest
    after = os.stat(store.path(digest))
    assert after.st_ino == before.st_ino
    assert after.st_mtime > 1e9
    assert [path.name for path in Path(store.folder).rglob("*") if path.is_file()] == [digest]


@pytest.mark.parametrize("damage", ["torn", "changed"])
def test_what_is_there_and_damaged_is_written_again(store, damage):
    """To perform a step again repairs its value."""
    digest = store.put([b"a" * 70_000])
    path = Path(store.path(digest))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == "changed" else data[:-1])
    assert store.put([b"a" * 70_000]) == digest
    assert store.get(digest, verify=True)[0] == b"a" * 70_000


# -- a disk that is full -------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing(store, monkeypatch, number):
    """StoreError says how much was to be written and where; no half file is left."""
    written = []

    def full(path, pieces):
        Path(path).write_bytes(b"half")
        written.append(path)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(blobs, "_write", full)
    with pytest.raises(StoreError) as caught:
        store.put([bytes(70_000), bytes(7)])
    assert f"cannot write a value of 70,007 bytes into {store.folder}" in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert "PIPEDECO_STORE" in str(caught.value)
    assert caught.value.__cause__.errno == number
    assert not Path(written[0]).exists()


def test_an_interrupted_write_leaves_nothing(store, monkeypatch):
    """A signal raises in the main thread, which is writing."""

    def interrupted(path, pieces):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(blobs, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.put([bytes(70_000)])
    assert [path for path in Path(store.folder).rglob("*") if path.is_file()] == []


def test_a_thread_that_cannot_hash(store, monkeypatch):
    """No blob has the name of what was not hashed to its end, and no thread is no failure."""
    digest = store.put([b"a" * 70_000])
    other = BlobStore(f"{store.folder}-2")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "run", lambda self: None)
        assert other.put([b"a" * 70_000]) == digest
    other = BlobStore(f"{store.folder}-3")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert other.put([b"a" * 70_000]) == digest
    assert other.get(digest, verify=True)[0] == b"a" * 70_000


def refuse(_):
    raise RuntimeError("can't start new thread")


def test_a_folder_that_cannot_be_made(tmp_path):
    """The folder of blobs is made at the first write; that may fail as well."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write a value of 1 bytes"):
        BlobStore(str(tmp_path / "file" / "blobs")).put([b"a"])
