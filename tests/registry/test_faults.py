"""Many writers, killed writers, full disks: no acknowledged write is lost, no other is half there."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridctl.errors import StoreError
from gridctl.registry import Registry, RunStore
from gridctl.resources import Site

PRELUDE = """
import sys
from pathlib import Path
from gridctl.errors import ConflictError, StoreError
from gridctl.registry import Registry
from gridctl.resources import Metadata, ResourceKey, Site, SiteSpec

def site(name, population):
    spec = SiteSpec(lat=48.85, lon=2.35, country="FR", tier="edge", population=population)
    return Site(metadata=Metadata(name=name), spec=spec)

path = Path(sys.argv[1])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    program = PRELUDE + textwrap.dedent(script)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def check_ledger(registry: Registry) -> None:
    """Versions are 1, 2, 3 … without a gap, and everything else that must hold does."""
    assert registry.check_integrity() == []
    assert [event.version for event in registry.events()] == list(range(1, registry.version() + 1))


def test_eight_processes_that_compare_and_set_one_row_lose_no_update(path: Path, site) -> None:
    processes, rounds = 8, 25
    with Registry.open(path, create=True) as registry:
        registry.apply([site("counter", population=0)], cause="")
    script = """
    key = ResourceKey("Site", "counter")
    done = conflicts = 0
    with Registry.open(path) as registry:
        while done < int(sys.argv[2]):
            seen = registry.get(*key)
            try:
                wanted = site("counter", seen.resource.spec.population + 1)
                registry.apply([wanted], cause=f"process {sys.argv[3]}", expected={key: seen.version})
                done += 1
            except ConflictError:
                conflicts += 1
    print(done, conflicts)
    """
    running = [start(script, path, rounds, number) for number in range(processes)]
    outcomes = [finish(process).split() for process in running]
    assert [int(done) for done, _ in outcomes] == [rounds] * processes
    with Registry.open(path) as registry:
        stored = registry.get(Site, "counter")
        assert stored.resource.spec.population == processes * rounds
        assert stored.version == stored.generation == 1 + processes * rounds
        check_ledger(registry)
        # Each update read what the one before it wrote.
        steps = [event.diff[0] for event in registry.events(since_version=1)]
        assert [(step.before, step.after) for step in steps] == [(n, n + 1) for n in range(processes * rounds)]


def test_processes_that_read_and_change_inside_one_transaction_never_conflict(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site("counter", population=0)], cause="")
    script = """
    with Registry.open(path) as registry:
        for _ in range(25):
            registry.update(
                ResourceKey("Site", "counter"), lambda old: site("counter", old.spec.population + 1), cause=""
            )
    """
    for process in [start(script, path) for _ in range(4)]:
        finish(process)
    with Registry.open(path) as registry:
        assert registry.get(Site, "counter").resource.spec.population == 100
        check_ledger(registry)


def test_processes_that_create_one_registry_at_once_share_it(path: Path) -> None:
    script = """
    with Registry.open(path, create=True) as registry:
        registry.apply([site(f"s{sys.argv[2]}", 1)], cause="")
    """
    for process in [start(script, path, number) for number in range(6)]:
        finish(process)
    with Registry.open(path) as registry:
        assert registry.names(Site) == [f"s{number}" for number in range(6)]
        check_ledger(registry)


def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_half_done(path: Path) -> None:
    # Each apply sets three sites to one number, and only then says that number aloud.
    script = """
    with Registry.open(path, create=True) as registry:
        number = int(sys.argv[2])
        while True:
            number += 1
            registry.apply([site(name, number) for name in "abc"], cause=str(number))
            print(number, flush=True)
    """
    pick = random.Random(7)
    acknowledged = 0
    for _ in range(20):
        process = start(script, path, acknowledged)
        assert process.stdout is not None
        heard = [process.stdout.readline() for _ in range(pick.randrange(1, 12))]
        process.kill()
        # Not `communicate`, which would miss the lines that `readline` has already taken from the pipe.
        rest = process.stdout.read()
        process.communicate(timeout=60)
        said = [int(line) for line in "".join([*heard, rest]).split()]
        acknowledged = said[-1]
        with Registry.open(path) as registry:
            numbers = {stored.resource.spec.population for stored in registry.list(Site)}
            assert numbers in ({acknowledged}, {acknowledged + 1})
            acknowledged = numbers.pop()
            check_ledger(registry)
            assert registry.version() == 3 * acknowledged
    assert sorted(file.name for file in path.parent.iterdir()) == ["grid.db", "grid.db.lock"]


def test_a_killed_replacement_of_a_run_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    script = """
    import numpy as np
    from gridctl.registry import RunStore
    number = int(sys.argv[2])
    while True:
        number += 1
        columns = {name: np.full(5000, number) for name in "abc"}
        RunStore(path).save("base", str(number).encode(), columns, replace=True)
        print(number, flush=True)
    """
    pick = random.Random(11)
    folder = tmp_path / "runs"
    acknowledged = 0
    for _ in range(6):
        process = start(script, folder, acknowledged)
        assert process.stdout is not None
        heard = [process.stdout.readline() for _ in range(pick.randrange(1, 6))]
        # Whatever moment of a replacement a reader meets, it gets one whole run.
        while_replaced = [load_number(folder) for _ in range(3)]
        process.kill()
        rest, _ = process.communicate(timeout=60)
        before, acknowledged = acknowledged, int("".join([*heard, rest]).split()[-1])
        number = load_number(folder)
        assert number in (acknowledged, acknowledged + 1)
        assert [before, *while_replaced, number] == sorted([before, *while_replaced, number])
        acknowledged = number
    RunStore(folder).save("last", b"", {})
    assert RunStore(folder).list() == ["base", "last"]
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".partial")] == []


def test_a_run_replaced_without_a_pause_is_whole_at_every_look(tmp_path: Path) -> None:
    script = """
    import numpy as np
    from gridctl.registry import RunStore
    for number in range(int(sys.argv[2])):
        columns = {name: np.full(50, number) for name in "abc"}
        RunStore(path).save("base", str(number).encode(), columns, replace=True)
        print(number, flush=True)
    """
    folder = tmp_path / "runs"
    replacements = 300
    with start(script, folder, replacements) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = {0}
        while max(seen) < replacements - 1:
            seen |= {load_number(folder), int(RunStore(folder).document("base"))}
            assert RunStore(folder).inputs("base") is None


def load_number(folder: Path) -> int:
    """The number that the document and every value of the run `base` agree on."""
    document, columns = RunStore(folder).load("base")
    assert {int(value) for column in columns.values() for value in column} == {int(document)}
    return int(document)


def test_a_file_size_limit_is_a_full_disk_and_the_registry_stays_whole(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site(f"s{number}") for number in range(50)], cause="")
        before = registry.all()
    script = """
    import resource
    with Registry.open(path) as registry:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        for _ in range(2):
            try:
                registry.apply([site(f"new{number}", 1) for number in range(3000)], cause="")
            except StoreError as error:
                print(error.where, error.what, sep="|")
        assert len(registry.list(Site)) == 50
        registry.apply([site("small", 1)], cause="")
        print("small fits")
    """
    *refusals, last = finish(start(script, path)).splitlines()
    assert last == "small fits"
    assert len(refusals) == 2
    for where, what in (line.split("|") for line in refusals):
        assert where == str(path)
        assert "disk is full or a file-size limit is reached" in what
        assert "bytes are free" in what
    with Registry.open(path) as registry:
        assert [stored for stored in registry.all() if stored.resource.name != "small"] == before
        check_ledger(registry)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where the system lets a test mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or unmount is None:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run([unmount, str(folder)], check=True)


def test_a_write_that_does_not_fit_is_refused_and_a_smaller_one_still_works(small_disk: Path, site) -> None:
    path = small_disk / "grid.db"
    with Registry.open(path, create=True) as registry:
        registry.apply([site("kept")], cause="")
        with pytest.raises(StoreError, match=r"disk is full.* bytes are free") as caught:
            registry.apply([site(f"s{number}") for number in range(5000)], cause="")
        assert caught.value.where == str(path)
        registry.apply([site("after")], cause="")
        assert registry.names(Site) == ["after", "kept"]
        check_ledger(registry)


def test_a_full_disk_refuses_writes_and_backups_and_serves_readers(small_disk: Path, site) -> None:
    path = small_disk / "grid.db"
    with Registry.open(path, create=True) as registry:
        registry.apply([site("kept")], cause="")
    fill(small_disk)
    with Registry.open(path) as registry:
        assert registry.names(Site) == ["kept"]
        with pytest.raises(StoreError, match="disk is full"):
            registry.apply([site("after")], cause="")
        with pytest.raises(StoreError, match="disk is full"):
            registry.backup(small_disk / "backup.db")
        assert registry.names(Site) == ["kept"]
    (small_disk / "ballast").unlink()
    assert [file.name for file in small_disk.iterdir() if "backup" in file.name] == []
    with Registry.open(path) as registry:
        registry.apply([site("after")], cause="")
        assert registry.names(Site) == ["after", "kept"]
        check_ledger(registry)


def test_a_run_that_does_not_fit_leaves_the_disk_as_it_was(small_disk: Path) -> None:
    import numpy as np

    store = RunStore(small_disk / "runs")
    store.save("base", b"kept", {"a": np.zeros(1000)})
    free_before = os.statvfs(small_disk).f_bavail
    with pytest.raises(StoreError, match="8000129 bytes are needed"):
        store.save("base", b"x", {"a": np.zeros(1_000_000)}, replace=True)
    assert os.statvfs(small_disk).f_bavail == free_before
    assert store.load("base")[0] == b"kept"


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
