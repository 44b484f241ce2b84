"""Whatever the bytes, reading ends in resources or in InputError, with a place and no traceback."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridctl.errors import InputError
from gridctl.manifest import parse_manifest

NAMES = ("f.yaml", "f.json", "f.jsonl", "sites.csv", "<stdin>")
SEEDS = (
    b"apiVersion: gridctl/v1\nkind: Site\nmetadata:\n  name: a\n  labels: {x: y}\nspec:\n  lat: 1\n  lon: 2\n"
    b"  country: NO\n  tier: edge\n  serverless:\n    variants:\n      - m/int8\n"
    b"---\nkind: Policy\nmetadata: {name: p}\nspec: {}\n",
    b'{"apiVersion":"gridctl/v1","kind":"List","items":[{"kind":"Link","metadata":{"name":"l"},"spec":{"source":"a","target":"b","rtt_ms":1}}]}',
    b'kind,name,lat,lon,country,tier,labels.x,serverless.variants\nSite,a,1,2,NO,edge,y,"[""m/int8""]"\nSite,b,1,2,FR,core,,\n',
    b'{"kind":"Workload","metadata":{"name":"w"},"spec":{"objectives":[{"metric":"ttft_ms","threshold_ms":500}],"models":["m"]}}\n',
)
SCRAPS = (
    b"\x00", b"\xff", b"\t", b"&a", b"*a", b"!!x", b"? ", b": ", b"- ", b"{", b"}", b"[", b"]", b'"', b"'", b"|\n",
    b">-\n", b"#", b"%", b"---\n", b"...", b"<<: ", b"~", b".nan", b"1e999", b"NaN", b"\\ud800", b"\\u0000", b",",
    b";", b"\r", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"null", b"9" * 50, b"kind", b"spec", b"items", b"-0",
    b"\xf0\x9f\x9a\x80", b"=",
)  # fmt: skip


def check(data: bytes, name: str) -> None:
    """Parse; anything but InputError escapes and fails the test."""
    try:
        declared = parse_manifest(data, name=name)
    except InputError as error:
        for one in (error, *error.related):
            assert one.where is not None
            assert one.where.startswith(name)
            assert one.what
            assert one.fix
    else:
        assert declared
        assert all(one.where.startswith(f"{name}:") for one in declared)


@given(data=st.binary(max_size=200), name=st.sampled_from(NAMES))
@settings(max_examples=400, deadline=None)
def test_random_bytes(data, name):
    check(data, name)


@given(text=st.text(max_size=100), name=st.sampled_from(NAMES))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_text(text, name):
    check(text.encode("utf-8", "surrogatepass"), name)


def mutated(seed: int) -> tuple[bytes, str]:
    """A sound manifest with one to four injuries, and a name to read it under."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                del data[start : start + rng.randint(1, 12)]
            case 1:
                data[start:start] = rng.choice(SCRAPS)
            case 2:
                end = start + rng.randint(1, 30)
                data[start:start] = data[start:end]
            case 3:
                data[start : start + rng.randint(1, 8)] = rng.choice(SCRAPS)
            case _:
                if start < len(data):
                    data[start] = rng.randrange(256)
    return bytes(data), rng.choice(NAMES)


@pytest.mark.parametrize("block", range(4))
def test_mutated_manifests(block):
    for seed in range(block * 1000, block * 1000 + 1000):
        check(*mutated(seed))
