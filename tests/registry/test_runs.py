"""Runs: read back bit for bit or refused, never half there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.registry import RunStore

DOCUMENT = b'{"name": "base"}'


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    return {
        "arrival_ns": np.arange(1000, dtype=np.int64) * 10**15,
        "usd": np.linspace(0.0, 1.0, 1000),
        "outcome": np.zeros(1000, dtype=np.uint8),
        "tenant": np.array(["a", "équipe"] * 500),
        "pairs": np.arange(12, dtype=np.int32).reshape(3, 4).T,
        "none": np.zeros((0, 3), dtype=np.float32),
        "big_endian": np.arange(3, dtype=">i8"),
        "row": np.array([(1, 2.5)], dtype=[("n", "<i4"), ("x", "<f8")]),
    }


def leftovers(store: RunStore) -> list[str]:
    return sorted(entry.name for entry in store.folder.iterdir() if entry.name.startswith((".partial", ".replaced")))


def test_a_run_is_read_back_bit_for_bit(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    document, loaded = store.load("base")
    assert document == DOCUMENT == store.document("base")
    assert list(loaded) == list(columns)
    for name, column in columns.items():
        assert type(loaded[name]) is np.ndarray
        assert loaded[name].dtype == column.dtype
        assert loaded[name].shape == column.shape
        assert loaded[name].tobytes() == column.tobytes()
        assert column.size == 0 or not loaded[name].flags.writeable


def test_a_column_is_a_plain_npy_file(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    assert np.array_equal(np.load(store.folder / "base" / "usd.npy"), columns["usd"])
    assert (store.folder / "base" / "run.json").read_bytes() == DOCUMENT
    assert stat.S_IMODE((store.folder / "base" / "usd.npy").stat().st_mode) == 0o600


def test_runs_are_listed_by_name_and_the_latest_is_the_last_saved(store: RunStore) -> None:
    assert store.list() == []
    assert store.latest() is None
    for moment, name in enumerate(("b", "a", "c-2"), start=1):
        store.save(name, DOCUMENT, {})
        os.utime(store.folder / name / "run.json", ns=(moment, moment))
    assert store.list() == ["a", "b", "c-2"]
    assert store.latest() == "c-2"


def test_a_fresh_name_follows_the_highest_number(store: RunStore) -> None:
    assert store.fresh_name() == "run-1"
    for name in ("run-1", "run-10", "run-x", "base-3"):
        store.save(name, DOCUMENT, {})
    assert store.fresh_name() == "run-11"
    assert store.fresh_name("base") == "base-4"
    assert store.fresh_name("new") == "new-1"


def test_a_taken_name_is_refused_with_both_ways_out(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    with pytest.raises(InputError, match="there is a run base already") as caught:
        store.save("base", b"other", {})
    assert "--name base-1" in (caught.value.fix or "")
    assert "--replace" in (caught.value.fix or "")
    assert store.document("base") == DOCUMENT
    assert leftovers(store) == []


def test_a_replaced_run_is_the_new_one_and_readers_of_the_old_keep_it(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    _, old = store.load("base")
    store.save("base", b"new", {"usd": np.ones(3)}, replace=True)
    document, new = store.load("base")
    assert (document, list(new), new["usd"].tolist()) == (b"new", ["usd"], [1.0, 1.0, 1.0])
    assert np.array_equal(old["usd"], columns["usd"])
    assert leftovers(store) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "A", "a b", "x" * 64, "a\0", "-a", "a\n"])
def test_a_name_that_is_no_name_reaches_no_file(store: RunStore, name: str) -> None:
    with pytest.raises(InputError, match="not a name for a run"):
        store.save(name, DOCUMENT, {})
    with pytest.raises(NotFoundError):
        store.load(name)
    with pytest.raises(NotFoundError):
        store.delete(name)
    assert not store.folder.exists()


def test_a_missing_run_suggests_the_closest(store: RunStore) -> None:
    store.save("baseline", DOCUMENT, {})
    for action in (store.load, store.document, store.delete):
        with pytest.raises(NotFoundError, match="there is no run basline") as caught:
            action("basline")
        assert "baseline" in (caught.value.fix or "")


def test_a_deleted_run_is_gone_and_its_readers_keep_it(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    _, loaded = store.load("base")
    store.delete("base")
    assert store.list() == []
    assert leftovers(store) == []
    assert np.array_equal(loaded["usd"], columns["usd"])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0" * 8)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["usd.npy", "columns.json", "none.npy"])
@pytest.mark.parametrize("damage", [truncate, lengthen, flip, Path.unlink])
def test_a_damaged_file_is_refused_by_name(store: RunStore, columns, damage, file: str) -> None:
    store.save("base", DOCUMENT, columns)
    damage(store.folder / "base" / file)
    with pytest.raises(StoreError, match=f"the run base is damaged: {file}") as caught:
        store.load("base")
    assert caught.value.where == str(store.folder / "base" / file)
    assert "gridctl run delete base" in (caught.value.fix or "")
    store.delete("base")
    assert store.list() == []


def test_a_run_without_its_document_is_damaged(store: RunStore) -> None:
    store.save("base", DOCUMENT, {})
    (store.folder / "base" / "run.json").unlink()
    with pytest.raises(StoreError, match="damaged"):
        store.document("base")


def test_an_index_that_names_files_elsewhere_is_refused(store: RunStore) -> None:
    store.save("base", DOCUMENT, {"usd": np.ones(3)})
    index = store.folder / "base" / "columns.json"
    index.write_bytes(index.read_bytes().replace(b'"usd"', b'"../usd"'))
    with pytest.raises(StoreError, match="not a name for a column"):
        store.load("base")


def test_a_replacement_killed_between_its_renames_leaves_the_old_run(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    (store.folder / "base").rename(store.folder / ".replaced-base")
    assert store.list() == ["base"]
    assert store.load("base")[0] == DOCUMENT
    assert leftovers(store) == []


def test_a_run_between_the_two_renames_of_its_replacement_is_there_for_every_reader(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, aside = threading.Event(), threading.Event()

    class Reader(RunStore):
        """Says when it waits for the writer."""

        def _lock(self):
            asked.set()
            return super()._lock()

    rename = Path.rename

    def slowly(path: Path, target: Path) -> Path:
        renamed = rename(path, target)
        if target.name.startswith(".replaced-"):
            aside.set()
            assert asked.wait(30)
        return renamed

    store.save("base", DOCUMENT, {})
    store.save("older", DOCUMENT, {})
    os.utime(store.folder / "older" / "run.json", ns=(0, 0))
    monkeypatch.setattr(Path, "rename", slowly)
    for look, found in ((Reader.latest, "base"), (lambda reader: reader.document("base"), DOCUMENT)):
        asked.clear()
        aside.clear()
        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(store.save, "base", DOCUMENT, {}, replace=True)
            assert aside.wait(30)
            try:
                assert look(Reader(store.folder)) == found
            finally:
                asked.set()
            writer.result(30)


def test_a_folder_that_may_only_be_read_still_says_that_a_run_is_missing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save("base", DOCUMENT, {})
    real = os.open

    def refuses(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuses)
    with pytest.raises(NotFoundError, match="there is no run bace"):
        store.document("bace")


def test_a_leftover_that_its_own_writer_removes_meanwhile_is_no_fault_of_the_next_writer(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SimpleNamespace(name=".partial-gone-0123", path=str(store.folder / ".partial-gone-0123"))
    monkeypatch.setattr("gridctl.registry.runs.os.scandir", lambda folder: iter([gone]))
    store.save("base", DOCUMENT, {})
    monkeypatch.undo()
    assert store.list() == ["base"]


def test_leftovers_of_a_dead_writer_are_removed_and_those_of_a_living_one_kept(store: RunStore) -> None:
    store.save("base", DOCUMENT, {})
    (store.folder / ".partial-dead-0123").mkdir()
    (store.folder / ".partial-dead-0123" / "usd.npy").write_bytes(b"half")

    class Nosy(dict[str, np.ndarray]):
        """Columns that look around while they are written, and save another run meanwhile."""

        def items(self):
            seen.append(leftovers(store))
            RunStore(store.folder).save("inner", DOCUMENT, {})
            seen.append(leftovers(store))
            return super().items()

    seen: list[list[str]] = []
    store.save("outer", DOCUMENT, Nosy())
    assert [len(names) for names in seen] == [1, 1]
    assert seen[0] == seen[1]
    assert seen[0][0].startswith(".partial-outer-")
    assert leftovers(store) == []
    assert store.list() == ["base", "inner", "outer"]


def test_a_file_size_limit_is_a_full_disk_and_leaves_nothing(store: RunStore, columns) -> None:
    store.save("base", DOCUMENT, columns)
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from gridctl.errors import StoreError
        from gridctl.registry import RunStore
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for name, replace in (("new", False), ("base", True)):
            try:
                RunStore(Path(sys.argv[1])).save(
                    name, b"x", {"a": np.zeros(10), "b": np.zeros(1_000_000)}, replace=replace
                )
            except StoreError as error:
                print(error.where, error.what, sep="|")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(store.folder)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    said = [line.split("|") for line in outcome.stdout.splitlines()]
    assert [where for where, _ in said] == [str(store.folder / "new"), str(store.folder / "base")]
    # 10 + 1,000,000 numbers of 8 bytes, two headers of 128 bytes, one byte of document.
    assert all("8000337 bytes are needed" in what and "bytes are free" in what for _, what in said)
    assert store.list() == ["base"]
    assert leftovers(store) == []
    assert store.load("base")[0] == DOCUMENT


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="the file system refused"):
        RunStore(tmp_path / "file" / "runs").save("base", DOCUMENT, {})


TYPES = {"arrival_ns": np.int64, "outcome": np.int8}


def piece(start: int, stop: int) -> dict[str, np.ndarray]:
    return {"arrival_ns": np.arange(start, stop), "outcome": np.arange(start, stop) % 3}


def test_a_run_written_piece_by_piece_is_the_run_saved_at_once(store: RunStore) -> None:
    with store.writing("pieces", TYPES, 10) as draft:
        for start, stop in ((0, 4), (4, 4), (4, 10)):
            draft.append(piece(start, stop))
        assert np.concatenate(list(draft.read("arrival_ns"))).tolist() == list(range(10))
        assert store.list() == []
        draft.finish(DOCUMENT)
    whole = {name: column.astype(TYPES[name]) for name, column in piece(0, 10).items()}
    store.save("whole", DOCUMENT, whole)
    for name in ("run.json", "columns.json", "arrival_ns.npy", "outcome.npy"):
        assert (store.folder / "pieces" / name).read_bytes() == (store.folder / "whole" / name).read_bytes()
    document, loaded = store.load("pieces")
    assert document == DOCUMENT
    assert loaded["outcome"].tolist() == whole["outcome"].tolist()


def test_a_run_that_is_not_finished_leaves_nothing_and_keeps_the_old_one(store: RunStore) -> None:
    store.save("base", DOCUMENT, {})
    with store.writing("base", TYPES, 10, replace=True) as draft:
        draft.append(piece(0, 4))

    def interrupted() -> None:
        with store.writing("base", TYPES, 10, replace=True) as draft:
            draft.append(piece(0, 4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert leftovers(store) == []
    assert store.load("base") == (DOCUMENT, {})


def test_a_draft_with_too_few_rows_is_our_own_mistake(store: RunStore) -> None:
    def hasty() -> None:
        with store.writing("base", TYPES, 10) as draft:
            draft.append(piece(0, 9))
            draft.finish(DOCUMENT)

    with pytest.raises(AssertionError):
        hasty()
    assert leftovers(store) == store.list() == []


def test_two_runs_may_be_written_at_the_same_time_and_leftovers_do_not_disturb_them(store: RunStore) -> None:
    with store.writing("a", TYPES, 4) as first:
        first.append(piece(0, 2))
        with store.writing("b", TYPES, 4) as second:
            second.append(piece(0, 4))
            second.finish(DOCUMENT)
        store.save("c", DOCUMENT, {})  # removes what killed writers left, not what is being written
        first.append(piece(2, 4))
        first.finish(DOCUMENT)
    assert store.list() == ["a", "b", "c"]
    assert store.load("a")[1]["arrival_ns"].tolist() == [0, 1, 2, 3]


def test_a_name_taken_meanwhile_is_refused_at_the_end(store: RunStore) -> None:
    def overtaken() -> None:
        with store.writing("base", TYPES, 0) as draft:
            store.save("base", b"{}", {})
            draft.finish(DOCUMENT)

    with pytest.raises(InputError, match="there is a run base already"):
        overtaken()
    assert store.document("base") == b"{}"


def test_a_disk_that_fills_while_a_run_is_written_says_so(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="the disk is full"), store.writing("base", TYPES, 10):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("gridctl.registry.runs.free_bytes", lambda path: 10)
    with pytest.raises(StoreError, match="346 bytes are needed"), store.writing("base", TYPES, 10):
        raise AssertionError("no work was to be done")
    assert leftovers(store) == store.list() == []
