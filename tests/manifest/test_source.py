"""Files, folders, standard input and URLs; duplicates over all of them."""

import gzip
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from gridctl.errors import InputError, UnreachableError
from gridctl.manifest import document, download, parse_manifest, read_manifests, source


def names(declared):
    return [one.resource.name for one in declared]


def refused(paths, **options):
    with pytest.raises(InputError) as caught:
        read_manifests(paths, **options)
    return [caught.value, *caught.value.related]


@pytest.fixture
def folder(tmp_path, site, site_json):
    (tmp_path / "b.yaml").write_text(site.replace("oslo-01", "b"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.json").write_text(site_json.replace("oslo-01", "z"))
    (tmp_path / "a" / "y.YML").write_text(site.replace("oslo-01", "y"))
    (tmp_path / "c.jsonl").write_text(site_json.replace("\n", "").replace("oslo-01", "c"))
    (tmp_path / "sites.csv").write_text("name,lat,lon,country,tier\nno-d,1,2,NO,edge\n")
    (tmp_path / "gridctl.yaml").write_text("store: grid.db\n")
    (tmp_path / "README.md").write_text("# a grid\n")
    (tmp_path / ".hidden.yaml").write_text("not: read\n")
    (tmp_path / ".gridctl").mkdir()
    (tmp_path / ".gridctl" / "run.json").write_text("{}")
    (tmp_path / "trace.csv.gz").write_bytes(gzip.compress(b"TIMESTAMP,ContextTokens,GeneratedTokens\n", mtime=0))
    (tmp_path / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n")
    (tmp_path / "trace.jsonl").write_text('{"timestamp": 0, "input_length": 1, "output_length": 2}\n')
    return tmp_path


def test_a_folder_stands_for_its_manifests_in_sorted_order(folder):
    declared = read_manifests([folder])
    assert names(declared) == ["no-y", "no-z", "no-b", "no-c", "no-d"]
    assert declared[0].where == f"{folder}/a/y.YML:1"


def test_a_trace_named_directly_is_refused_with_the_right_command(folder):
    (error,) = refused([folder / "trace.jsonl"])
    assert "gridctl replay run" in error.fix


def test_the_order_of_the_paths_is_kept(folder):
    assert names(read_manifests([folder / "c.jsonl", str(folder / "b.yaml")])) == ["no-c", "no-b"]


def test_a_folder_without_manifests_is_refused(tmp_path):
    (error,) = refused([tmp_path])
    assert error.where == str(tmp_path)


def test_standard_input_is_read_in_any_format(site, site_json, folder):
    for text, where in [
        (site, "<stdin>:1"),
        (f"\n{site_json}", "<stdin>:2"),
        ("kind,name,source,target,rtt_ms\nLink,a,b,c,1\n", "<stdin>:2"),
    ]:
        (declared,) = read_manifests(["-"], stdin=io.BytesIO(text.encode()))
        assert declared.where == where


def test_a_name_declared_twice_names_both_places_over_all_files(folder, site):
    (folder / "e.yaml").write_text("# once more\n" + site.replace("oslo-01", "z"))
    (error,) = refused([folder, folder / "b.yaml"])[:1]
    assert error.what == f"site no-z is declared twice: at {folder}/a/z.json:1 and at {folder}/e.yaml:2"
    assert error.where == f"{folder}/e.yaml:2"
    assert len(refused([folder, folder / "b.yaml"])) == 2


def test_the_same_name_in_two_kinds_is_no_duplicate(site):
    text = site + "---\nkind: Policy\nmetadata: {name: no-oslo-01}\nspec: {}\n"
    assert len(read_manifests(["-"], stdin=io.BytesIO(text.encode()))) == 2


def test_the_problems_of_all_files_come_together(folder, site):
    (folder / "b.yaml").write_text(site.replace("59.91", "95"))
    (folder / "c.jsonl").write_text("{")
    found = refused([folder, folder / "nothing.yaml"])
    assert [one.where for one in found] == [f"{folder}/b.yaml:6:8", f"{folder}/c.jsonl:1:2", f"{folder}/nothing.yaml"]


@pytest.mark.parametrize(
    ("data", "where", "words"),
    [
        (b"", "", "the file is empty"),
        (b" \n\t\n", "", "the file is empty"),
        (b"# only a comment\n", "", "declares no resource"),
        (b"\x7fELF\x00\x01", ":1", "binary"),
        (b"a: 1\nb: \x00\n", ":2", "binary"),
        (b"a: 1\nb: caf\xe9\n", ":2:7", "0xe9 is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "", "UTF-16"),
        (gzip.compress(b"a: 1\n", mtime=0), "", "compressed"),
    ],
)
def test_what_is_not_text_is_refused(tmp_path, data, where, words):
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    (error,) = refused([path])
    assert error.where == f"{path}{where}"
    assert words in error.what
    assert error.fix


def test_a_missing_file_suggests_its_neighbour(folder):
    (error,) = refused([folder / "sitse.csv"])
    assert error.fix == f"did you mean {folder}/sites.csv?"
    (error,) = refused([folder / "nowhere" / "sites.csv"])
    assert "does not exist either" in error.fix


def test_odd_paths_are_input_errors(tmp_path):
    for path in ("a\0b", "/dev/null/x", "x" * 5000, "ftp://example.com/a.yaml", "file:///etc/passwd"):
        assert refused([path])


def test_a_manifest_over_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "big.yaml"
    with path.open("wb") as file:
        file.truncate(document.MAX_BYTES + 1)
    (error,) = refused([path])
    assert "larger than 32 MiB" in error.what


class _Pages(BaseHTTPRequestHandler):
    """A loopback web server: path → (status, headers, body)."""

    pages: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {}

    def do_GET(self):
        status, headers, body = self.pages.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as listening:
        monkeypatch.setattr(_Pages, "pages", {})
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", _Pages.pages
        listening.shutdown()
        thread.join()


def test_a_manifest_is_read_from_a_loopback_url(server, site):
    url, pages = server
    pages["/grid.yaml?x=1"] = 200, {}, site.encode()
    pages["/old"] = 302, {"Location": "/grid.yaml?x=1"}, b""
    assert read_manifests([f"{url}/grid.yaml?x=1"])[0].where == f"{url}/grid.yaml?x=1:1"
    assert names(read_manifests([f"{url}/old"])) == ["no-oslo-01"]


@pytest.mark.parametrize(
    ("status", "headers", "error", "words"),
    [
        (404, {}, UnreachableError, "answered 404"),
        (500, {}, UnreachableError, "answered 500"),
        (302, {"Location": "/here"}, UnreachableError, "more than 5 redirects"),
        (302, {"Location": "https://127.0.0.1:1/x"}, InputError, "redirects from http to https"),
        (302, {"Location": "file:///etc/passwd"}, InputError, "over https"),
        (302, {"Location": "http://192.0.2.1/x"}, InputError, "over https"),
        (200, {"Content-Encoding": "gzip"}, UnreachableError, "cannot be fetched"),
    ],
)
def test_a_url_that_does_not_deliver_is_an_error(server, status, headers, error, words):
    url, pages = server
    pages["/here"] = status, headers, b"not gzip"
    with pytest.raises(error, match=words):
        read_manifests([f"{url}/here"])


def test_a_download_over_the_limit_is_cut_off(server, monkeypatch):
    url, pages = server
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    pages["/big.yaml"] = 200, {}, b"a" * 1001
    with pytest.raises(InputError, match="larger"):
        read_manifests([f"{url}/big.yaml"])


def test_a_dead_peer_is_unreachable():
    with pytest.raises(UnreachableError, match="cannot be fetched"):
        read_manifests(["http://127.0.0.1:1/grid.yaml"])


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/a.yaml", "http://localhost.example/a", "http://user:pw@127.0.0.1/a", "https://", "http://[::1"],
)
def test_other_urls_are_refused_before_any_connection(url):
    (error,) = refused([url])
    assert "pw" not in f"{error.what} {error.where} {error.fix}"


@pytest.mark.parametrize("name", ["yaml", "csv", "dir.csv/grid", "https://example.com/grid", "grid.txt"])
def test_a_name_without_a_known_suffix_is_read_by_its_content(name, site, site_json):
    for text in (site, site_json, "kind,name,source,target,rtt_ms\nLink,a,b,c,1\n"):
        assert parse_manifest(text.encode(), name=name)


def test_a_grid_folder_does_not_stand_for_a_grid_inside_it(tmp_path, site):
    inner = tmp_path / "outer" / "inner" / "deep"
    inner.mkdir(parents=True)
    (inner.parent / "gridctl.yaml").write_text("name: inner\n")
    (inner / "sites.yaml").write_text(site)
    (tmp_path / "outer" / "sites.yaml").write_text(site.replace("no-oslo-01", "no-bergen-01"))
    assert names(read_manifests([tmp_path / "outer"])) == ["no-oslo-01", "no-bergen-01"]
    (tmp_path / "outer" / "gridctl.yaml").write_text("name: outer\n")
    assert names(read_manifests([tmp_path / "outer"])) == ["no-bergen-01"]
    assert names(read_manifests([tmp_path / "outer" / "inner"])) == ["no-oslo-01"]


def test_an_unreadable_folder_is_an_input_error(tmp_path, monkeypatch, site):
    (tmp_path / "a.yaml").write_text(site)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    (error,) = refused([tmp_path])
    assert error.what == "the folder cannot be read: Permission denied"


def test_a_folder_that_is_no_grid_s_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "sites").mkdir()
    for number in range(6):
        (tmp_path / "sites" / f"{number}.txt").touch()
    monkeypatch.setattr(source, "MAX_ENTRIES", 6)
    (error,) = refused([tmp_path])
    assert error.what.startswith("the folder holds more than 6 files and folders")
    for number in range(3):
        (tmp_path / f"{number}.yaml").write_text("{")
    monkeypatch.setattr(source, "MAX_FILES", 2)
    (error,) = refused([tmp_path])
    assert error.what.startswith("the folder holds more than 2 manifests")
    assert (error.where, error.fix) == (str(tmp_path), "name the grid's own folder, or its files")
