"""Site tables: what is read, and what each mistake says."""

import gzip

import pytest

from gridctl.errors import InputError
from gridctl.geography.siterow import SiteRow, read_site_rows

HEADER = "site,city,country,lat,lon,tier,served_population\n"
GOOD = "fr-paris-01,Paris,FR,48.85,2.35,edge,1000\n"


def table(tmp_path, text):
    path = tmp_path / "sites.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_plain_and_gzip_read_the_same(tmp_path):
    plain = table(tmp_path, HEADER + GOOD)
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress((HEADER + GOOD).encode(), mtime=0))
    assert read_site_rows(plain) == read_site_rows(packed)
    assert read_site_rows(plain) == [SiteRow("fr-paris-01", "Paris", "FR", 48.85, 2.35, "edge", 1000)]


def test_columns_may_come_in_any_order_with_others_between(tmp_path):
    text = "note,tier,site,city,country,lon,lat,served_population\nx,core,a,A,US,1,2,3\n"
    assert read_site_rows(table(tmp_path, text)) == [SiteRow("a", "A", "US", 2, 1, "core", 3)]


def test_accents_come_off_site_names(tmp_path):
    text = HEADER + GOOD.replace("fr-paris-01", "ca-montréal-01")
    assert read_site_rows(table(tmp_path, text))[0].site == "ca-montreal-01"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("fr-paris-01,Paris,FR,95,2.35,edge,1000", "lat is '95'"),
        ("fr-paris-01,Paris,FR,nan,2.35,edge,1000", "lat is 'nan'"),
        ("fr-paris-01,Paris,FR,48,200,edge,1000", "lon is '200'"),
        ("fr-paris-01,Paris,FR,48,2,egde,1000", "not a tier"),
        ("fr-paris-01,Paris,ZZ,48,2,edge,1000", "no country"),
        ("fr-paris-01,Paris,FR,48,2,edge,-1", "served_population"),
        ("fr-paris-01,Paris,FR,48,2,edge,1e3", "served_population"),
        ("Fr Paris,Paris,FR,48,2,edge,1", "not a site name"),
        ("東京,Tokyo,JP,35,139,edge,1", "not a site name"),
        ("fr-paris-01,Paris,FR,48,2,edge", "6 cells where the header has 7"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, row, what):
    path = table(tmp_path, HEADER + row + "\n")
    with pytest.raises(InputError) as caught:
        read_site_rows(path)
    assert what in caught.value.what
    assert caught.value.where == f"{path}:2"
    assert caught.value.fix


def test_every_wrong_row_is_reported_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        read_site_rows(table(tmp_path, HEADER + GOOD + GOOD + GOOD.replace("48.85", "480")))
    assert "listed twice" in caught.value.what
    assert [error.what for error in caught.value.related] == ["lat is '480'"] or len(caught.value.related) == 1


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no column 'site'"),
        (HEADER.encode(), "no sites"),
        (b"name,city\n", "no column 'site'"),
        (gzip.compress((HEADER + GOOD * 100).encode(), mtime=0)[:-20], "cut short"),
        (b"\x1f\x8b garbage", "cut short"),
        (HEADER.encode() + b"\xff\xfe\x00", "not UTF-8"),
        (b'site,"city', "not CSV"),
    ],
)
def test_a_wrong_file_is_refused_whole(tmp_path, content, what):
    path = tmp_path / "sites.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_site_rows(path)
    assert what in caught.value.what


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_site_rows(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot read"):
        read_site_rows(tmp_path)
