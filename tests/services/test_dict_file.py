"""The file dict: what is written is read, many writers lose nothing, and a lock of Dovecot's is respected."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authlua.errors import Unreachable
from authlua.services import dict_file
from authlua.services.dict_file import commit, iterate, lookup

METHODS = ["dotlock", "fcntl", "flock"]
TEXT = st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(values=st.dictionaries(TEXT, TEXT, max_size=5))
def test_whatever_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    """Line breaks, tabs and bytes that are no text too."""
    path = tmp_path_factory.mktemp("dict") / "dict"
    commit(path, values.items(), "dotlock")
    assert dict(iterate(path, "", dict_file.RECURSE)) == values
    for key, value in values.items():
        assert lookup(path, key) == value


@pytest.mark.parametrize("method", METHODS)
def test_many_writers_lose_nothing(tmp_path: Path, method: str) -> None:
    """Each sees what the others have written; nothing is left beside the file."""
    path = tmp_path / "dict"

    def write(writer: int) -> None:
        for number in range(10):
            commit(path, [(f"shared/{writer}/{number}", "x"), ("shared/last", f"{writer}")], method)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(iterate(path, "shared/", dict_file.RECURSE)) == 41
    assert os.listdir(tmp_path) == ["dict"]


@pytest.mark.parametrize("method", METHODS)
def test_a_new_file_has_its_directorys_permissions(tmp_path: Path, method: str) -> None:
    """And keeps those it has been given; directories are made as needed."""
    path = tmp_path / "new" / "deep" / "dict"
    commit(path, [("shared/a", "1")], method)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    commit(path, [("shared/a", None)], method)
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (0o640, b"")


def test_a_lock_that_was_forgotten_is_broken(tmp_path: Path) -> None:
    """One that somebody holds is waited for, one as old as a minute is nobody's."""
    path, lock = tmp_path / "dict", tmp_path / "dict.lock"
    lock.touch()
    os.utime(lock, (time.time() - 100, time.time() - 100))
    commit(path, [("shared/a", "1")], "dotlock")
    assert lookup(path, "shared/a") == "1"


def test_a_lock_that_is_held_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For two minutes; then the change fails and the file is as it was."""
    path, lock = tmp_path / "dict", tmp_path / "dict.lock"
    monkeypatch.setattr(dict_file, "LOCK_TIMEOUT", 0.1)
    lock.touch()
    with pytest.raises(Unreachable, match="file_dotlock_open"):
        commit(path, [("shared/a", "1")], "dotlock")
    assert lock.exists()
    lock.unlink()
    commit(path, [("shared/a", "1")], "dotlock")
    assert lookup(path, "shared/a") == "1"


def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A key without a value is none."""
    path = tmp_path / "dict"
    path.write_bytes(b"shared/a\n1\nshared/b\n2")
    assert (lookup(path, "shared/a"), lookup(path, "shared/b")) == ("1", None)


def test_what_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    """It is no missing key."""
    with pytest.raises(Unreachable, match="Is a directory"):
        lookup(tmp_path, "shared/a")
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="Not a directory"):
        commit(tmp_path / "file" / "dict", [("shared/a", "1")], "dotlock")
