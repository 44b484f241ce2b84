"""CSV: columns, kinds, cells, and errors that name the line and the column."""

import pytest

from gridctl.manifest import parse_manifest

HEADER = "name,lat,lon,country,tier"


def test_a_spreadsheet_of_sites_is_read(problems):
    text = (
        f"{HEADER},city,population,labels.zone,labels.topology/rack,serverless.variants,serverless.concurrency\n"
        "no-oslo-01, 59.91 ,10.75,NO,edge,Oslo,709037,eu-north,r1,qwen3-0.6b/int8; smol/int8,4\n"
        '\n"fr-paris-01",48.85,2.35,FR,core,"Paris, centre",,,,,\n'
    )
    oslo, paris = parse_manifest(text.encode(), name="grid/sites.csv")
    assert oslo.where == "grid/sites.csv:2"
    assert oslo.resource.spec.lat == 59.91
    assert oslo.resource.metadata.labels == {"zone": "eu-north", "topology/rack": "r1"}
    assert oslo.resource.spec.serverless.variants == ("qwen3-0.6b/int8", "smol/int8")
    assert oslo.resource.spec.serverless.concurrency == 4
    assert paris.where == "grid/sites.csv:4"
    assert paris.resource.spec.city == "Paris, centre"
    assert paris.resource.spec.population == 0
    assert paris.resource.spec.serverless is None


@pytest.mark.parametrize("name", ["links.csv", "link.csv", "measured-links_2026.csv"])
def test_the_file_name_says_the_kind(name):
    (link,) = parse_manifest(b"name,source,target,rtt_ms\na-b,a,b,12\n", name=name)
    assert link.resource.kind == "Link"


def test_a_kind_column_mixes_kinds():
    header = "kind,name,source,target,rtt_ms,metric,op,value,workload\n"
    text = header + "Link,a-b,a,b,12,,,,\nGate,fast,,,,ttft_ms.p99,<=,500,voice\n"
    link, gate = parse_manifest(text.encode(), name="<stdin>")
    assert (link.resource.kind, gate.resource.kind, gate.resource.spec.value) == ("Link", "Gate", 500)


def test_lists_of_structs_stand_in_a_cell_as_json():
    text = 'name,site,gpu,gpus,deployments\nc,a,l4,2,"[{""variant"":""m/fp8"",""replicas"":2}]"\n'
    (cluster,) = parse_manifest(text.encode(), name="clusters.csv")
    assert cluster.resource.spec.deployments[0].replicas == 2


def test_booleans_of_a_spreadsheet_are_in_capitals():
    (policy,) = parse_manifest(b"name,allow_reject\np,FALSE\n", name="policies.csv")
    assert policy.resource.spec.allow_reject is False


@pytest.mark.parametrize(
    ("text", "where", "words", "fix"),
    [
        (
            f"{HEADER}\na,1,2,FR,edge\nb,95,2,FR,edge\n",
            "sites.csv:3",
            "site b: column lat is 95; it must be -90 to 90",
            "explain",
        ),
        (
            f'{HEADER},city\na,1,2,FR,edge,"two\nlines"\nb,x,2,FR,edge,\n',
            "sites.csv:4",
            'column lat is the text "x"',
            "a number",
        ),
        (f"{HEADER},cache_gib\na,1,2,FR,edge,64 GiB\n", "sites.csv:2", "column cache_gib", "write 64; the unit"),
        (f"{HEADER}\na,,2,FR,edge\n", "sites.csv:2", "column lat is missing", "add lat"),
        (f"{HEADER}\n,1,2,FR,edge\n", "sites.csv:2", "column name is missing", "add name"),
        (f"{HEADER}\na,1,2,FR\n", "sites.csv:2", "4 cells, the header 5", "commas"),
        (f'{HEADER}\n"a,1,2,FR,edge\n', "sites.csv:2", "never closed", "double quote"),
        (f"{HEADER}\n{'a' * 140_000},1,2,FR,edge\n", "sites.csv:2", "larger than 128 KiB", "double quote"),
        (f"{HEADER},kache_gib\n", "sites.csv:1", "'kache_gib' is not a column of a site", "did you mean cache_gib?"),
        ("site,lat\n", "sites.csv:1", "'site' is not a column of a site", "did you mean name?"),
        (f"{HEADER},spec.lat\n", "sites.csv:1", "'lat' is given twice", "remove"),
        ("name,lat,\n", "sites.csv:1", "column 3 has no name", "name it"),
        ("lat,lon\n1,2\n", "sites.csv:1", "no column 'name'", "add a column"),
        ("name;lat;lon\n", "sites.csv:1", "separated by semicolons", "commas"),
        (f"{HEADER}\n" + "a" * 10_000_001, "sites.csv:2", "longer than 10,000,000", "split"),
        (f"{HEADER},serverless.variants\na,1,2,FR,edge,[1\n", "sites.csv:2", "ends before it is complete", "cut short"),
        ("kind,name,source\nSite,a,b\n", "sites.csv:2", "a Site has no column 'source'", "leave the cell empty"),
        ("kind,name,source\nLinc,a,b\n", "sites.csv:2", '"Linc" is not a kind', "did you mean Link?"),
    ],
)
def test_a_csv_is_refused_by_line_and_column(problems, text, where, words, fix):
    first = problems(text, "sites.csv")[0]
    assert first.where == where
    assert words in first.what
    assert fix in first.fix


def test_a_file_of_unknown_kind_is_refused(problem):
    where, _, fix = problem(f"{HEADER}\na,1,2,FR,edge\n", "export.csv")
    assert where == "export.csv:1"
    assert "sites.csv" in fix


def test_all_bad_rows_are_reported(problems):
    rows = "".join(f"s{n},{90 + n},2,FR,edge\n" for n in range(5))
    assert [one.where for one in problems(f"{HEADER}\n{rows}", "sites.csv")] == [f"sites.csv:{n}" for n in (3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n", "sites.csv"),
        ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x\n", "burst.csv"),
        ('{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n', "mooncake.jsonl"),
    ],
)
def test_a_request_trace_is_recognised(problem, header, name):
    where, what, fix = problem(header, name)
    assert where == name
    assert "request trace" in what
    assert f"gridctl replay run {name}" in fix
