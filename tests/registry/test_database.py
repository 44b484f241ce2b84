"""Files that cannot be used, each with its own clear refusal; format changes; backups."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from gridctl.errors import InputError, NotFoundError, StoreError
from gridctl.registry import Registry
from gridctl.registry.database import Database
from gridctl.registry.schema import MIGRATIONS, Migration, schema_version
from gridctl.resources import Site

FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4 = 993896074, 54837339, 149280670, 760438788
NEXT = len(MIGRATIONS) + 1
SECOND = Migration(NEXT, ("CREATE TABLE note (text TEXT NOT NULL)", "INSERT INTO note VALUES ('from the next one')"))
BROKEN = Migration(NEXT, ("CREATE TABLE note (text TEXT NOT NULL)", "INSERT INTO nowhere VALUES (1)"))


def test_a_missing_registry_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        Registry.open(path)
    assert caught.value.fix == "make one: gridctl init NAME"
    assert caught.value.where == str(path)
    assert list(path.parent.iterdir()) == []


def test_an_empty_file_is_a_missing_registry_and_can_become_one(path: Path) -> None:
    path.touch()
    with pytest.raises(NotFoundError):
        Registry.open(path)
    with Registry.open(path, create=True) as registry:
        assert registry.check_integrity() == []


def test_creating_makes_the_folders_above_and_opening_again_keeps_what_is_there(tmp_path: Path, site) -> None:
    path = tmp_path / "grid" / ".gridctl" / "grid.db"
    with Registry.open(path, create=True) as registry:
        registry.apply([site()], cause="")
    with Registry.open(path, create=True) as registry:
        assert registry.names(Site) == ["fr-paris-01"]


def test_only_the_owner_may_read_the_file_whatever_the_umask(path: Path, site) -> None:
    before = os.umask(0)
    try:
        with Registry.open(path, create=True) as registry:
            registry.apply([site()], cause="")
            registry.backup(path.with_name("backup.db"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["grid.db", "grid.db-wal", "grid.db-shm", "grid.db.lock", "backup.db"], 0o600)


@pytest.mark.parametrize(
    "content", [b"kind: Site\n" * 200, b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 4080, b"x"]
)
def test_a_file_that_is_no_database_is_refused_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for create in (False, True):
        with pytest.raises(StoreError, match="not a database") as caught:
            Registry.open(path, create=create)
        assert caught.value.where == str(path)
    assert path.read_bytes() == content


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder"):
        Registry.open(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_path_the_system_refuses_is_a_clear_error(tmp_path: Path, name: str) -> None:
    for create in (False, True):
        with pytest.raises(StoreError):
            Registry.open(tmp_path / name, create=create)


def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE cookies (name TEXT)")
    other.close()
    content = path.read_bytes()
    for create in (False, True):
        with pytest.raises(StoreError, match="not a gridctl registry"):
            Registry.open(path, create=create)
    assert path.read_bytes() == content


def test_a_newer_registry_is_refused_with_the_version_to_install(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site()], cause="")
    newer = sqlite3.connect(path)
    with newer:
        newer.execute("INSERT INTO migration VALUES (?, 77, '9.4.0', 0)", (NEXT,))
        newer.execute(f"PRAGMA user_version = {NEXT}")
    newer.close()
    for create in (False, True):
        with pytest.raises(StoreError, match=f"newer gridctl: its format is {NEXT}") as caught:
            Registry.open(path, create=create)
        assert caught.value.fix == "install it: pip install 'gridctl>=9.4.0'"


def test_a_format_with_other_statements_is_refused(path: Path) -> None:
    Registry.open(path, create=True).close()
    other = sqlite3.connect(path)
    with other:
        other.execute("UPDATE migration SET checksum = checksum + 1")
    other.close()
    with pytest.raises(StoreError, match="not the one gridctl"):
        Registry.open(path)


def test_a_damaged_registry_is_refused_with_a_way_back(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site(f"s{n}") for n in range(300)], cause="")
    content = bytearray(path.read_bytes())
    # Page 1 holds the header and the list of tables; every other page is overwritten.
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged") as caught, Registry.open(path) as registry:
        registry.list(Site)
    assert "backup" in (caught.value.fix or "")


def test_a_truncated_registry_is_refused(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site(f"s{n}") for n in range(300)], cause="")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreError, match="damaged"), Registry.open(path) as registry:
        registry.list(Site)


def test_a_document_of_another_version_is_named(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site("a"), site("b")], cause="")
    other = sqlite3.connect(path)
    with other:
        other.execute("""UPDATE resource SET document = replace(document, '"lat"', '"latitude"') WHERE name = 'b'""")
    other.close()
    with Registry.open(path) as registry:
        assert registry.get(Site, "a").resource.name == "a"
        with pytest.raises(StoreError, match=r"Site b in the registry cannot be read: .*latitude"):
            registry.list(Site)
        (problem,) = registry.check_integrity()
        assert "Site b" in problem


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM event WHERE version = 1", "1 of 2 events are missing"),
        ("UPDATE counter SET version = 7", "the counter holds"),
        ("UPDATE resource SET version = 1 WHERE name = 'b'", "Site b has version 1, which no event made"),
        ("UPDATE resource SET name = 'z' WHERE name = 'b'", "Site z holds the declaration of b"),
    ],
)
def test_integrity_names_what_is_wrong(path: Path, site, damage: str, words: str) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site("a"), site("b")], cause="")
        assert registry.check_integrity() == []
    other = sqlite3.connect(path)
    with other:
        other.execute(damage)
    other.close()
    with Registry.open(path) as registry:
        assert any(words in problem for problem in registry.check_integrity())


def test_the_settings_that_keep_acknowledged_writes_are_on(path: Path) -> None:
    database = Database.open(path, create=True, timeout_s=5.0)
    with database.reading() as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "wal_autocheckpoint")
        }
    database.close()
    # synchronous 2 is FULL.
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "wal_autocheckpoint": 0,
    }


def test_a_long_log_is_folded_into_the_database_by_its_writer(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        for round_ in range(8):
            registry.apply([site(f"s{n}", population=round_ + 1) for n in range(1000)], cause="")
            assert path.with_name("grid.db-wal").stat().st_size < 8 << 20
    assert sorted(file.name for file in path.parent.iterdir()) == ["grid.db", "grid.db.lock"]


def test_a_writer_that_waits_in_vain_says_who_is_writing(path: Path, site) -> None:
    Registry.open(path, create=True).close()
    with Registry.open(path, busy_timeout_s=0.05) as registry, path.with_name("grid.db.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=rf"another gridctl \(process {os.getpid()}\) is writing"):
            registry.apply([site()], cause="")
        assert registry.list(Site) == []
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert registry.apply([site()], cause="")[0].action == "create"


def test_a_foreign_program_holding_the_database_is_a_clear_error(path: Path, site) -> None:
    with Registry.open(path, create=True, busy_timeout_s=0.05) as registry:
        browser = sqlite3.connect(path, isolation_level=None)
        browser.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another program is writing"):
            registry.apply([site()], cause="")
        assert registry.version() == 0
        browser.execute("ROLLBACK")
        browser.close()
        assert registry.apply([site()], cause="")[0].action == "create"


def test_a_reader_sees_one_moment_and_does_not_stop_a_writer(path: Path, site) -> None:
    with Registry.open(path, create=True) as writer:
        writer.apply([site("a")], cause="")
        reader = Database.open(path, create=False, timeout_s=5.0)
        with reader.reading() as snapshot:
            count = "SELECT count(*) FROM resource"
            assert snapshot.execute(count).fetchone() == (1,)
            writer.apply([site("b")], cause="")
            assert snapshot.execute(count).fetchone() == (1,)
        with reader.reading() as snapshot:
            assert snapshot.execute(count).fetchone() == (2,)
        reader.close()


def test_an_older_format_is_brought_forward_after_a_backup(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site()], cause="")
        written = registry.all()
    Database.open(path, create=False, timeout_s=5.0, migrations=(*MIGRATIONS, SECOND)).close()
    upgraded = sqlite3.connect(path)
    assert schema_version(upgraded) == NEXT
    assert upgraded.execute("SELECT text FROM note").fetchall() == [("from the next one",)]
    recorded = upgraded.execute("SELECT number, checksum FROM migration").fetchall()
    assert recorded == [(one.number, one.checksum) for one in (*MIGRATIONS, SECOND)]
    upgraded.close()
    # Once more changes nothing; the program of the older format refuses; the backup still opens with it.
    Database.open(path, create=False, timeout_s=5.0, migrations=(*MIGRATIONS, SECOND)).close()
    with pytest.raises(StoreError, match="newer"):
        Registry.open(path)
    with Registry.open(path.with_name(f"grid.db.format-{NEXT - 1}.bak")) as kept:
        assert kept.all() == written


def test_a_migration_that_fails_half_way_leaves_the_older_format(path: Path, site) -> None:
    with Registry.open(path, create=True) as registry:
        registry.apply([site()], cause="")
        written = registry.all()
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database.open(path, create=False, timeout_s=5.0, migrations=(*MIGRATIONS, BROKEN))
    with Registry.open(path) as registry:
        assert registry.all() == written
        assert registry.check_integrity() == []


def test_a_released_migration_never_changes() -> None:
    # The checksum of each format as released; databases in the field carry them.
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert [migration.checksum for migration in MIGRATIONS] == [FORMAT_1, FORMAT_2, FORMAT_3, FORMAT_4]


def test_a_registry_of_the_first_format_gains_keys_and_keeps_what_it_held(path: Path, site) -> None:
    first = Database.open(path, create=True, timeout_s=5.0, migrations=MIGRATIONS[:1])
    with first.writing() as connection:
        connection.execute("UPDATE counter SET version = 0")
    first.close()
    with Registry.open(path) as registry:
        registry.apply([site()], cause="")
        assert registry.access_keys() == []
        assert registry.check_integrity() == []
    assert path.with_name("grid.db.format-1.bak").exists()


def test_a_backup_opens_and_holds_the_same(path: Path, registry: Registry, site) -> None:
    registry.apply([site(f"s{n}") for n in range(50)], cause="")
    target = path.with_name("backup.db")
    registry.backup(target)
    written = (registry.all(), registry.events())
    registry.apply([site("later")], cause="")
    with Registry.open(target) as copy:
        assert (copy.all(), copy.events()) == written
        assert copy.check_integrity() == []
    assert sorted(file.name for file in path.parent.glob("*backup*")) == ["backup.db"]


def test_a_backup_overwrites_nothing_and_needs_a_place(path: Path, registry: Registry) -> None:
    target = path.with_name("precious.txt")
    target.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        registry.backup(target)
    assert target.read_text() == "precious"
    target.unlink()
    with pytest.raises(StoreError, match="refused"):
        registry.backup(path / "below-a-file" / "backup.db")
