"""What a check of the whole grid refuses is said at the file, line and column that declared it."""

import pytest

from gridctl.errors import ConflictError, InputError
from gridctl.manifest import located, parse_manifest
from gridctl.manifest.locating import field_path

CLUSTER = """\
kind: Cluster
metadata: {name: c}
spec:
  site: nowhere
  gpu: l4
  gpus: 2
  deployments:
    - {variant: a/b}
    - {variant: a/missing, replicas: 2}
"""


def refused(data, error, name="c.yaml"):
    with pytest.raises(InputError) as caught, located(parse_manifest(data.encode(), name=name)):
        raise error
    return caught.value


def test_a_field_has_its_line_and_column():
    error = refused(CLUSTER, InputError("site nowhere does not exist", where="cluster c, spec.site", fix="f"))
    assert (error.where, error.fix) == ("c.yaml:4:9", "f")
    assert error.what == "cluster c, spec.site: site nowhere does not exist"


def test_a_list_entry_s_field_and_the_related_errors_have_theirs():
    related = InputError("does not fit", where="cluster c, spec.deployments[0]")
    first = InputError("unknown", where="cluster c, spec.deployments[1].variant", related=[related])
    error = refused(CLUSTER, first)
    assert (error.where, error.related[0].where) == ("c.yaml:9:17", "c.yaml:8:7")


def test_an_absent_field_and_a_resource_as_a_whole_stand_at_what_is_nearest():
    assert refused(CLUSTER, InputError("x", where="cluster c, spec.usd_per_gpu_hour")).where == "c.yaml:4:3"
    assert refused(CLUSTER, InputError("x", where="cluster c")).where == "c.yaml:1:1"


def test_json_and_csv_have_places_too():
    text = '[{"kind":"Cluster","metadata":{"name":"c"},\n "spec":{"site":"nowhere","gpu":"l4","gpus":2}}]'
    error = InputError("x", where="cluster c, spec.site")
    assert refused(text, error, name="c.json").where == "c.json:2:17"
    rows = "name,site,gpu,gpus\nb,x,l4,1\nc,nowhere,l4,2\n"
    assert refused(rows, InputError("x", where="cluster c, spec.site"), name="clusters.csv").where == "clusters.csv:3"


def test_what_the_registry_alone_holds_keeps_its_name():
    for where in ("cluster other, spec.site", "--policy", None):
        error = refused(CLUSTER, InputError("x", where=where))
        assert (error.what, error.where) == ("x", where)


def test_a_conflict_is_about_the_registry():
    with pytest.raises(ConflictError) as caught, located(parse_manifest(CLUSTER.encode(), name="c.yaml")):
        raise ConflictError("changed since it was read", where="cluster c")
    assert caught.value.where == "cluster c"


def test_field_paths_are_read_as_errors_write_them():
    assert field_path("spec.telemetry.delay_ms") == ("spec", "telemetry", "delay_ms")
    assert field_path("") == ()
