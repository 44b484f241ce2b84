"""Measured files: what is read, what each mistake says, and the error table by hand."""

import gzip

import pytest

from gridctl.errors import InputError
from gridctl.geography.place import Place
from gridctl.network.measured import MeasuredCity, MeasuredPair, read_cities, read_pairs
from gridctl.network.model import rtt_ms
from gridctl.network.validation import validate

CITIES = "city,lat,lon,country,coord_suspect\nParis,48.85,2.35,France,0\nLyon,45.76,4.84,FR,1\n"
PAIRS = "src,dst,rtt_avg_ms\nParis,Lyon,10\n"


def file(tmp_path, content):
    path = tmp_path / "file.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_pairs_with_and_without_spread(tmp_path):
    assert read_pairs(file(tmp_path, PAIRS)) == [MeasuredPair("Paris", "Lyon", 10.0, None)]
    wide = "src,dst,rtt_avg_ms,rtt_min_ms,rtt_max_ms,rtt_mdev_ms\na,b,10,9,12,0.5\n"
    assert read_pairs(file(tmp_path, gzip.compress(wide.encode(), mtime=0)))[0].spread_ms == (9.0, 12.0, 0.5)


def test_cities_by_code_or_name(tmp_path):
    assert read_cities(file(tmp_path, CITIES)) == {
        "Paris": MeasuredCity(Place("Paris", 48.85, 2.35, "FR"), False),
        "Lyon": MeasuredCity(Place("Lyon", 45.76, 4.84, "FR"), True),
    }


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        ("src,dst,rtt\na,b,1\n", "no column 'rtt_avg_ms'", 1),
        (PAIRS + "a,b,nan\n", "rtt_avg_ms is 'nan'", 3),
        (PAIRS + "a,b,-1\n", "rtt_avg_ms is '-1'", 3),
        (PAIRS + "a,b,0\n", "rtt_avg_ms is 0", 3),
        (PAIRS + "a,b\n", "2 cells where the header has 3", 3),
        ("", "no column 'src'", 1),
    ],
)
def test_a_wrong_pair_is_named_by_its_line(tmp_path, content, what, line):
    path = file(tmp_path, content)
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.fix


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("src,dst,rtt_avg_ms\n", "no measured pairs"),
        (gzip.compress(PAIRS.encode() * 50, mtime=0)[:-15], "cut short"),
        (b"src,dst,rtt_avg_ms\n\xff\xfe,b,1\n", "not UTF-8"),
        ('src,dst,rtt_avg_ms\n"a,b,1\n', "not CSV"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, what):
    with pytest.raises(InputError, match=what):
        read_pairs(file(tmp_path, content))


@pytest.mark.parametrize(
    ("row", "what"),
    [("X,95,0,FR,0", "lat is '95'"), ("X,1,1,Narnia,0", "no country"), ("Paris,1,1,FR,0", "listed twice")],
)
def test_a_wrong_city_is_refused(tmp_path, row, what):
    with pytest.raises(InputError, match=what):
        read_cities(file(tmp_path, CITIES + row + "\n"))


def test_the_error_table_by_hand():
    paris, lyon = Place("Paris", 48.85, 2.35, "FR"), Place("Lyon", 45.76, 4.84, "FR")
    rome = Place("Rome", 41.9, 12.5, "IT")
    cities = {
        "Paris": MeasuredCity(paris, False),
        "Lyon": MeasuredCity(lyon, False),
        "Rome": MeasuredCity(rome, False),
        "Odd": MeasuredCity(Place("Odd", 0, 0, "FR"), True),
    }
    near, far = rtt_ms(paris, lyon), rtt_ms(paris, rome)
    pairs = [
        MeasuredPair("Paris", "Lyon", near + 2, None),  # error −2
        MeasuredPair("Lyon", "Paris", near - 1, None),  # error +1
        MeasuredPair("Paris", "Rome", far + 6, None),  # error −6
        MeasuredPair("Paris", "Odd", 5.0, None),
        MeasuredPair("Paris", "Nowhere", 5.0, None),
    ]
    found = validate(pairs, cities)
    assert (found.skipped_suspect, found.skipped_unknown) == (1, 1)
    rows = {row.pair_class: row for row in found.rows}
    assert list(rows) == ["all", "same-country", "same-region"]
    assert rows["all"].pairs == 3
    assert rows["all"].mae_ms == pytest.approx(3)
    assert rows["all"].median_ms == pytest.approx(2)
    assert rows["all"].p90_ms == pytest.approx(6)
    assert rows["all"].bias_ms == pytest.approx(-7 / 3)
    assert rows["same-country"].mae_ms == pytest.approx(1.5)
    assert rows["same-region"].bias_ms == pytest.approx(-6)
    assert validate(pairs, cities, exclude_suspect=False).rows[0].pairs == 4


def test_no_usable_pair_is_an_input_error():
    with pytest.raises(InputError, match="no measured pair"):
        validate([MeasuredPair("a", "b", 1.0, None)], {})
