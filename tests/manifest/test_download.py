"""Manifests over https: the peer is played by respx, so no test leaves this machine."""

import httpx
import pytest
import respx

from gridctl.errors import InputError, UnreachableError
from gridctl.manifest import read_manifests

URL = "https://config.example/grid.yaml"


@pytest.fixture
def peer():
    with respx.mock(assert_all_called=False) as routes:
        yield routes


def test_a_manifest_is_read_over_https(peer, site):
    asked = peer.get(URL).mock(return_value=httpx.Response(200, text=site))
    (declared,) = read_manifests([URL])
    assert (declared.resource.name, declared.where) == ("no-oslo-01", f"{URL}:1")
    assert asked.call_count == 1


def test_a_mistake_is_told_at_the_url_s_line_and_column(peer, site):
    peer.get(URL).mock(return_value=httpx.Response(200, text=site.replace("59.91", "95")))
    with pytest.raises(InputError) as refused:
        read_manifests([URL])
    assert refused.value.where == f"{URL}:6:8"


def test_a_redirect_within_https_is_followed_and_one_to_clear_text_is_refused(peer, site):
    peer.get(URL).mock(return_value=httpx.Response(301, headers={"Location": "https://mirror.example/new.yaml"}))
    peer.get("https://mirror.example/new.yaml").mock(return_value=httpx.Response(200, text=site))
    assert read_manifests([URL])[0].resource.name == "no-oslo-01"
    clear = peer.get("http://127.0.0.1/grid.yaml").mock(return_value=httpx.Response(200, text=site))
    peer.get(URL).mock(return_value=httpx.Response(302, headers={"Location": "http://127.0.0.1/grid.yaml"}))
    with pytest.raises(InputError, match="redirects from https to http"):
        read_manifests([URL])
    assert not clear.called


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (httpx.ConnectTimeout("timed out"), "timed out"),
        (httpx.ReadTimeout(""), "ReadTimeout"),
        (httpx.ConnectError("no such host"), "no such host"),
        (httpx.RemoteProtocolError("peer closed connection"), "peer closed"),
    ],
)
def test_a_peer_that_fails_is_unreachable_and_nothing_is_declared(peer, fault, words):
    peer.get(URL).mock(side_effect=fault)
    with pytest.raises(UnreachableError, match=words) as refused:
        read_manifests([URL])
    assert refused.value.where == URL
    assert refused.value.exit_code == 5


def test_an_html_page_is_not_taken_for_a_manifest(peer):
    page = httpx.Response(200, html="<!DOCTYPE html><html><body>Sign in</body></html>")
    peer.get(URL).mock(return_value=page)
    with pytest.raises(InputError):
        read_manifests([URL])
