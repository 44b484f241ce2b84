"""What a dry run says against the file that is then written."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridctl.errors import InputError
from gridctl.traces.servegen_plan import plan
from gridctl.traces.servegen_pool import read_pool
from gridctl.traces.servegen_stream import ServegenSpan, ServegenStream
from gridctl.traces.writer import Header, write_stream


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rates = "client,t_s,rate_rps,cv,dist\n"
    rates += "".join(f"1,{t},{4 + t % 1800 / 600},1.2,Gamma\n2,{t},3,2,Weibull\n" for t in range(0, 7200, 600))
    lengths = "client,t_s,field,p1,p50,p99\n1,0,input_tokens,10,100,1000\n1,0,output_tokens,5,50,500\n"
    (tmp_path / "servegen_tiny_rates.csv").write_text(rates)
    (tmp_path / "servegen_tiny_lengths.csv").write_text(lengths)
    return tmp_path


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_requests_are_exact_and_tokens_and_bytes_close(folder: Path, name: str) -> None:
    stream = ServegenStream(read_pool([folder], "tiny"), ServegenSpan(0, 7200), [], [], 1)
    told = plan(stream, compress=name.endswith(".gz"))
    write_stream(Header(gridctl_trace="v1", tenants=stream.tenants), stream.pieces(), folder / name)
    parts = list(stream.pieces())
    assert told.forecast.requests == sum(len(part) for part in parts) == 12 * 600 * 3 + 4 * 600 * (4 + 5 + 6)
    assert told.forecast.input_tokens == pytest.approx(sum(int(part.input_tokens.sum()) for part in parts), rel=0.02)
    assert told.forecast.output_tokens == pytest.approx(sum(int(part.output_tokens.sum()) for part in parts), rel=0.02)
    assert told.file_bytes == pytest.approx((folder / name).stat().st_size, rel=0.1)
    assert told.forecast.peak_rps == 3 + 6
    assert told.forecast.borrowed_share == pytest.approx(12 * 3 / (12 * 3 + 4 * 15))
    assert told.write_s > 0


def test_silent_windows_are_counted_and_nothing_at_all_is_an_error(folder: Path) -> None:
    rates = "client,t_s,rate_rps,cv,dist\n1,0,1,1,Gamma\n1,1800,1,1,Gamma\n"
    (folder / "servegen_tiny_rates.csv").write_text(rates)
    pool = read_pool([folder], "tiny")
    assert plan(ServegenStream(pool, ServegenSpan(0, 2400), [], [], 1), compress=False).forecast.silent_windows == 2
    with pytest.raises(InputError, match="no request"):
        plan(ServegenStream(pool, ServegenSpan(600, 1200), [], [], 1), compress=False)
