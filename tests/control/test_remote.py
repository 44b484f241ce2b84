"""A grid elsewhere: the services behind the commands over a real admin API, on the socket and over TLS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gridctl.errors import ConflictError, InputError, NotFoundError, UnreachableError
from gridctl.orchestrator import resources as service
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.live_client import LiveClient, Remote
from gridctl.orchestrator.remote_registry import RemoteRegistry
from gridctl.registry import Registry, WantedKey
from gridctl.resources import Cluster, ResourceKey, Site

Start = Callable[..., Any]


def _elsewhere(up: Any) -> GridHome:
    return GridHome(Path("prod"), Path(), Path(), "test", Remote(up.ready().admin))


def test_commands_services_work_the_same_over_the_admin_api(start: Start, home: GridHome) -> None:
    away = _elsewhere(start())
    with away.open_registry() as there, home.open_registry() as here:
        assert there.all() == here.all()
        assert there.list(Site) == here.list("site")
        assert there.names(Cluster) == ["oslo-gpu", "paris-gpu"]
        assert there.get("cluster", "oslo-gpu") == here.get("cluster", "oslo-gpu")
        assert there.find(Site, "nowhere") is None
        with pytest.raises(NotFoundError) as caught:
            there.get("site", "fr-pariss-01")
        assert "fr-paris-01" in (caught.value.fix or "")
        assert there.events(kind="site", limit=2) == here.events(kind="site", limit=2)

        dry = service.set_state(there, Site, ["no-oslo-01"], "cordoned", cause="storm", dry_run=True)
        assert [step.action for step in dry] == ["update"]
        assert here.get(Site, "no-oslo-01").resource.spec.state == "active"
        service.set_state(there, Site, ["no-oslo-01"], "cordoned", cause="storm")
        assert here.get(Site, "no-oslo-01").resource.spec.state == "cordoned"
        assert here.events(limit=1)[0].cause == "storm"

        with pytest.raises(InputError, match="still in use"):
            service.delete(there, [ResourceKey("Site", "no-oslo-01")], cause="by mistake")
        with pytest.raises(InputError, match="still in use"):
            service.delete(there, [ResourceKey("Site", "no-oslo-01")], cause="by mistake", dry_run=True)
        with pytest.raises(ConflictError, match="changed since it was read"):
            there.apply(
                [here.get(Site, "no-oslo-01").resource], cause="", expected={ResourceKey("Site", "no-oslo-01"): 1}
            )
        assert there.version() == here.version()


def test_an_apply_elsewhere_keeps_what_an_operator_said(start: Start, home: GridHome, tmp_path: Path) -> None:
    away = _elsewhere(start())
    declared = service.read_files([str(tmp_path / "grid.yaml")])
    with away.open_registry() as there:
        service.set_state(there, Site, ["no-oslo-01"], "draining", cause="")
        applied = service.apply(there, declared, cause="again")
        assert applied.kept == (ResourceKey("Site", "no-oslo-01"),)
        assert there.get(Site, "no-oslo-01").resource.spec.state == "draining"


def test_keys_are_made_and_revoked_elsewhere(start: Start, home: GridHome) -> None:
    away = _elsewhere(start())
    with away.open_registry() as there:
        key, token = there.create_key(WantedKey(name="shop", tenant="shop", workload="chat"), cause="token create")
        assert (key.name, key.tenant, key.workload, key.digest) == ("shop", "shop", "chat", "")
        assert len(token) == 51
        there.revoke_key("shop", cause="leaked")
        assert [one.revoked_ns is not None for one in there.access_keys()] == [True]
        with pytest.raises(InputError, match="already, revoked"):
            there.create_key(WantedKey(name="shop"), cause="")
    with home.open_registry() as here:
        assert here.events(limit=1)[0].cause == "leaked"


def test_what_lives_in_a_folder_is_not_to_be_had_elsewhere(start: Start, home: GridHome) -> None:
    away = GridHome(Path("prod"), Path(), Path(), "context prod", Remote("unix:/nowhere"))
    for opened in (away.open_runs, away.open_draws, away.open_sweeps):
        with pytest.raises(InputError, match="are kept in a grid's folder"):
            opened()
    with RemoteRegistry(Remote("unix:/nowhere")) as registry, pytest.raises(UnreachableError, match="does not listen"):
        registry.version()


def test_tls_is_spoken_where_the_network_is_and_trusted_by_its_authority_alone(
    start: Start, home: GridHome, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=grid", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with Registry.open(home.database) as registry:
        _, token = registry.create_key(WantedKey(name="eye", role="viewer"), cause="test")
    up = start(admin="127.0.0.1:0", tls=(str(certificate), str(key)))
    url = up.ready().admin_url
    assert url.startswith("https://127.0.0.1:")
    with LiveClient(Remote(url, token, str(certificate))) as client:
        assert client.status().data_url.startswith("https://")
    with LiveClient(Remote(url, token)) as client, pytest.raises(UnreachableError, match="not trusted") as caught:
        client.status()
    assert "--ca FILE" in (caught.value.fix or "")
    with LiveClient(Remote(url.replace("https", "http"), token)) as client, pytest.raises(UnreachableError):
        client.status()
