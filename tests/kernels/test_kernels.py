"""Compiled kernels do what the same source does interpreted, from a fresh cache, a full one, a damaged one or none.

Expected by hand: integers (1 + 2 + 3)·10, twice, plus 0 + 1 + 2 = 123; floats (0.5 + 0.25)·100, twice, plus 1 = 151.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gridctl.kernels import is_interpreted

pytestmark = pytest.mark.skipif(is_interpreted(), reason="about compiled kernels")

ALL = "print(total(INTEGERS), total(FLOATS), balance(Shelf(INTEGERS, FLOATS, RECORDS)), RECORDS.after.tolist())"
RIGHT = "123.0 151.0 -28.0 [17, 18]\n"


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted((folder / "cache").rglob(pattern))


@pytest.mark.parametrize("environment", [{}, {"NUMBA_DISABLE_JIT": "1"}], ids=["compiled", "interpreted"])
def test_named_tuples_records_and_kernels_under_kernels_mean_the_same_compiled_and_interpreted(
    run: Callable, environment: dict[str, str]
) -> None:
    assert run(ALL, **environment) == RIGHT


def test_what_two_processes_compiled_for_different_types_a_third_loads_side_by_side(
    run: Callable, tmp_path: Path
) -> None:
    assert run("print(total(INTEGERS))") == "123.0\n"
    assert run("print(total(FLOATS))") == "151.0\n"
    kept = files(tmp_path, "*.nbc")
    assert len(kept) == 2
    assert run("print(total(INTEGERS), total(FLOATS), sum(total.stats.cache_hits.values()))") == "123.0 151.0 2\n"
    assert files(tmp_path, "*.nbc") == kept


@pytest.mark.parametrize("last", ["integers", "floats"])
def test_two_processes_that_compile_different_types_at_the_same_time_never_give_one_the_code_of_the_other(
    run: Callable, tmp_path: Path, last: str
) -> None:
    # Each saw an empty cache; one's list of files is written over by the other's, and its code is the last to come.
    for kind in ("integers", "floats"):
        run(f"print(total({kind.upper()}))", XDG_CACHE_HOME=str(tmp_path / kind))
    first = "floats" if last == "integers" else "integers"
    for kind, pattern in ((last, "*.nbi"), (first, "*.nbc"), (last, "*.nbc")):
        for path in (tmp_path / kind).rglob(pattern):
            target = tmp_path / "cache" / path.relative_to(tmp_path / kind)
            target.parent.mkdir(parents=True, exist_ok=True)
            if pattern == "*.nbi" or not target.exists():
                shutil.copy(path, target)
    assert run("print(total(INTEGERS), total(FLOATS))") == "123.0 151.0\n"
    assert run("print(total(INTEGERS), total(FLOATS), sum(total.stats.cache_hits.values()))") == "123.0 151.0 2\n"


def test_only_entries_that_python_called_are_kept(run: Callable, tmp_path: Path) -> None:
    run("print(total(INTEGERS))")
    assert [path.name.split("-")[0] for path in files(tmp_path, "*.nbc")] == ["boxes.total"]


def test_a_kernel_that_only_kernels_call_can_still_be_called_from_python(run: Callable, tmp_path: Path) -> None:
    assert run("print(weigh(INTEGERS, 2, 5))") == "35\n"
    assert files(tmp_path, "*.nbc") == []


@pytest.mark.parametrize("pattern", ["*.nbc", "*.nbi"])
def test_a_damaged_file_is_compiled_anew_and_mended(run: Callable, tmp_path: Path, pattern: str) -> None:
    run("print(total(INTEGERS))")
    (path,) = files(tmp_path, pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert run("print(total(INTEGERS))") == "123.0\n"
    assert run("print(total(INTEGERS), sum(total.stats.cache_hits.values()))") == "123.0 1\n"


def test_a_process_killed_between_index_and_code_leaves_nothing_that_hurts(run: Callable, tmp_path: Path) -> None:
    run("print(total(INTEGERS))")
    (path,) = files(tmp_path, "*.nbc")
    path.unlink()
    assert run("print(total(INTEGERS))") == "123.0\n"
    assert path.exists()


def test_without_a_cache_kernels_compile_in_memory(run: Callable, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where the folder should be")
    assert run("print(total(INTEGERS))", XDG_CACHE_HOME=str(tmp_path / "occupied")) == "123.0\n"


def test_settings_that_shape_the_code_have_a_folder_of_their_own(run: Callable) -> None:
    code = "from gridctl.kernels.cache import cache_folder; print(cache_folder())"
    plain = run(code)
    assert plain != run(code, NUMBA_OPT="1")
    assert plain != run(code, NUMBA_CPU_NAME="generic")
    assert plain == run(code, NUMBA_NUM_THREADS="1")


def test_one_process_compiles_at_a_time_and_the_next_is_told_to_wait(run: Callable) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from gridctl.kernels.cache import is_warm, mark_warm, sole_compiler
import threading
told = threading.Event()
order = []
def second():
    with sole_compiler(told.set):
        order.append(f"second, warm: {is_warm()}")
with ThreadPoolExecutor() as pool:
    with sole_compiler(lambda: order.append("nobody else is here")):
        job = pool.submit(second)
        assert told.wait(60)
        order.append("first")
        mark_warm()
    job.result(60)
print(order)
"""
    assert run(code) == "['first', 'second, warm: True']\n"
