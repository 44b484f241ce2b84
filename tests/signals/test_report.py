"""Reports of engines as they write them, and as they should not: values by hand, hostile bytes by the thousand."""

from __future__ import annotations

import random
import time

import pytest

from gridctl.signals.report import MOST_BYTES, MOST_LINES, MOST_SAMPLES, MOST_SERIES, Problem, Report, read_report

VLLM = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 4.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.0
vllm:num_requests_waiting_by_reason{engine="1",model_name="m",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 640.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+06
vllm:generation_tokens_total{engine="0",model_name="m"} 250000.0
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="573",num_gpu_blocks_override="None"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="573",num_gpu_blocks_override="None"} 1.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
"""


def test_vllm_with_two_data_parallel_ranks() -> None:
    assert read_report(VLLM) == Report(
        dialect="vllm",
        running=7.0,
        waiting=2.0,
        kv_share=0.5,
        kv_capacity_tokens=2 * 573 * 16.0,
        prefix_hits=640.0,
        prefix_lookups=1000.0,
        prompt_tokens=1.5e6,
        output_tokens=250_000.0,
    )


def test_vllm_before_its_renaming_and_without_total() -> None:
    report = read_report(
        b"vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.5\n"
        b"vllm:gpu_prefix_cache_hits 3\nvllm:gpu_prefix_cache_queries 4\nvllm:prompt_tokens 7\n"
    )
    assert (report.kv_share, report.prefix_hits, report.prefix_lookups, report.prompt_tokens) == (0.5, 3.0, 4.0, 7.0)


def test_of_the_old_and_the_new_spelling_the_new_one_counts() -> None:
    for lines in (
        b"vllm:kv_cache_usage_perc 0.2\nvllm:gpu_cache_usage_perc 0.9\n",
        b"vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.2\n",
    ):
        assert read_report(lines).kv_share == 0.2


def test_vllm_that_says_the_size_of_its_cache_in_tokens() -> None:
    config = b'vllm:cache_config_info{block_size="16",kv_cache_size_tokens="1000000",num_gpu_blocks="7"} 1\n'
    assert read_report(config).kv_capacity_tokens == 1_000_000
    assert read_report(b'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n').kv_capacity_tokens is None


def test_sglang_counts_tensor_parallel_ranks_once_and_adds_data_parallel_ones() -> None:
    report = read_report(
        b'sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="0"} 4.0\n'
        b'sglang:num_running_reqs{model_name="m",tp_rank="1",dp_rank="0"} 4.0\n'
        b'sglang:num_running_reqs{model_name="m",tp_rank="0",dp_rank="1"} 5.0\n'
        b'sglang:num_queue_reqs{model_name="m"} 3.0\n'
        b'sglang:token_usage{model_name="m",tp_rank="0"} 0.28\n'
        b'sglang:num_used_tokens{model_name="m",tp_rank="0"} 2800\n'
        b'sglang:num_used_tokens{model_name="m",tp_rank="1"} 2800\n'
        b'sglang:max_total_num_tokens{model_name="m"} 10000\n'
        b'sglang:cache_hit_rate{model_name="m"} 0.0075\n'
        b'sglang:cached_tokens_total{model_name="m",cache_source="device"} 100\n'
        b'sglang:cached_tokens_total{model_name="m",cache_source="host"} 20\n'
        b'sglang:prompt_tokens_total{model_name="m"} 8.128902e+06\n'
        b'sglang:generation_tokens_total{model_name="m"} 7.557572e+06\n'
    )
    assert report == Report(
        "sglang", 9.0, 3.0, 0.28, 2800.0, 10_000.0, 120.0, 8_128_902.0, 0.0075, 8_128_902.0, 7_557_572.0
    )


def test_tgi_whose_use_of_kv_is_unknown() -> None:
    report = read_report(
        b"tgi_batch_current_size 5\ntgi_queue_size 3\ntgi_batch_current_max_tokens 4096\n"
        b"tgi_request_generated_tokens_sum 4400\ntgi_request_generated_tokens_count 10\n"
        b"tgi_request_input_length_sum 9\n"
    )
    assert report == Report("tgi", running=5.0, waiting=3.0, prompt_tokens=9.0, output_tokens=4400.0)


def test_llama_cpp_without_labels_and_with_a_build_that_knows_its_kv() -> None:
    text = b"llamacpp:requests_processing 4\nllamacpp:requests_deferred 46\nllamacpp:tokens_predicted_total 17029\n"
    report = read_report(text + b"llamacpp:prompt_tokens_total 900\n")
    assert report == Report("llamacpp", 4.0, 46.0, prompt_tokens=900.0, output_tokens=17_029.0)
    assert read_report(text + b"llamacpp:kv_cache_tokens 812\n").kv_used_tokens == 812


def test_tensorrt_llm() -> None:
    report = read_report(
        b'trtllm_num_requests_running{engine_type="trtllm"} 6\ntrtllm_num_requests_waiting 1\n'
        b"trtllm_kv_cache_utilization 0.62\ntrtllm_kv_cache_max_blocks 1000\ntrtllm_kv_cache_tokens_per_block 32\n"
    )
    assert (report.dialect, report.running, report.waiting) == ("trtllm", 6.0, 1.0)
    assert (report.kv_share, report.kv_capacity_tokens) == (0.62, 32_000.0)


def test_triton_where_labels_are_the_metric() -> None:
    report = read_report(
        b'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 2\n'
        b'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 5\n'
        b'nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 512\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 64\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 100\n'
        b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm",version="1"} 0.01\n'
    )
    assert (report.dialect, report.running, report.waiting) == ("triton", 5.0, 2.0)
    assert (report.kv_share, report.kv_capacity_tokens) == (0.01, 6400.0)


def test_nim_without_a_prefix() -> None:
    report = read_report(
        b"num_requests_running 2\nnum_requests_waiting 0\nnum_request_max 256\ngpu_cache_usage_perc 0.1\n"
        b"prompt_tokens_total 10\ngeneration_tokens_total 20\n"
    )
    assert report == Report("nim", 2.0, 0.0, 0.1, prompt_tokens=10.0, output_tokens=20.0)


def test_nothing_known_is_no_dialect_and_no_problem() -> None:
    for body in (b"", b"\n\n", b"python_gc_objects_collected_total 5\n", b"<html><body>hello</body></html>"):
        assert read_report(body) == Report()


@pytest.mark.parametrize(
    "line",
    [
        b"vllm:num_requests_running 3\r",
        b"vllm:num_requests_running\t3",
        b"  vllm:num_requests_running   3   1700000000000",
        b'vllm:num_requests_running { engine="0" , } 3',
        b'vllm:num_requests_running{model_name="a}b",engine="0"} 3',
        b'vllm:num_requests_running{model_name="a\\"} 9 {",engine="0"} 3',
        b"vllm:num_requests_running{} 3",
        b'vllm:num_requests_running{engine="0"} 3 # {trace_id="x"} 0.5',
        b"vllm:num_requests_running +3.0e0",
    ],
)
def test_every_way_of_writing_a_sample_is_read(line: bytes) -> None:
    report = read_report(line + b"\nvllm:num_requests_waiting 1\n")
    assert (report.running, report.waiting, report.problems) == (3.0, 1.0, ())


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (b"NaN", "not-finite"),
        (b"+Inf", "not-finite"),
        (b"-inf", "not-finite"),
        (b"1e400", "not-finite"),
        (b"-1", "negative"),
        (b"1e7", "too-high"),
        (b"1_000", "not-a-number"),
        (b"0x10", "not-a-number"),
        (b"three", "not-a-number"),
        (b"\xd9\xa3", "not-a-number"),
        (b"1e" + b"9" * 9000, "not-a-number"),
        (b"", "not-a-number"),
    ],
)
def test_a_number_that_cannot_be_is_a_problem_and_no_number(value: bytes, word: str) -> None:
    report = read_report(b"vllm:num_requests_running " + value + b"\nvllm:num_requests_waiting 2\n")
    assert report.running is None
    assert report.waiting == 2.0
    assert [problem.word for problem in report.problems] == [word]
    assert report.problems[0].name == "vllm:num_requests_running"


def test_one_rank_that_lies_spoils_the_sum_it_is_part_of() -> None:
    report = read_report(b'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_running{engine="1"} NaN\n')
    assert report.running is None
    assert report.problems == (Problem("not-finite", "vllm:num_requests_running"),)


def test_a_share_over_one_is_another_unit_and_no_share() -> None:
    assert read_report(b"vllm:kv_cache_usage_perc 25\n").kv_share is None
    assert read_report(b"vllm:kv_cache_usage_perc 1.0\n").kv_share == 1.0


def test_a_body_over_the_limit_is_not_read() -> None:
    line = b"vllm:num_requests_running 3\n"
    assert read_report(line.ljust(MOST_BYTES, b"#")).running == 3.0
    assert read_report(line.ljust(MOST_BYTES + 1, b"#")) == Report(problems=(Problem("too-large", ""),))


def test_an_endless_line_of_a_known_name_is_a_problem_and_of_another_name_is_skipped() -> None:
    endless = b'vllm:num_requests_running{a="' + b"x" * 100_000 + b'"} 3\nvllm:num_requests_waiting 1\n'
    report = read_report(endless)
    assert (report.running, report.waiting) == (None, 1.0)
    assert [problem.word for problem in report.problems] == ["line-too-long"]
    assert read_report(b"other{" + b"x" * 1_000_000 + b"\nvllm:num_requests_waiting 1\n").problems == ()


def test_more_series_than_an_engine_can_have_ranks_is_a_problem() -> None:
    body = b"".join(b'vllm:num_requests_running{engine="%d"} 1\n' % rank for rank in range(MOST_SERIES + 1))
    report = read_report(body)
    assert report.running is None
    assert [problem.word for problem in report.problems] == ["too-many-series"]


def test_more_lines_than_a_report_has_are_not_read() -> None:
    body = b"vllm:num_requests_running 1\n" + b"\n" * MOST_LINES
    assert read_report(body) == Report(problems=(Problem("too-many-lines", ""),))
    assert read_report(body[:-1]).running == 1
    repeated = b"vllm:num_requests_running 1\n" * (MOST_SAMPLES + 1)
    assert read_report(repeated) == Report(problems=(Problem("too-many-series", ""),))


@pytest.mark.parametrize(
    "body",
    [
        b"vllm:num_requests_running{" * 5,
        b'vllm:num_requests_running{a="' + b"\\" * 16_000,
        b"vllm:num_requests_running{" + b'"' * 16_000,
        b"vllm:num_requests_running{" + b'a="",' * 3_000 + b"} 1",
        b"vllm:num_requests_running " + b" " * 16_000,
        (b"vllm:num_requests_running{" + b'x="\\' * 3_000 + b"\n") * 200,
        b"\n" * MOST_BYTES,
        b"{" * MOST_BYTES,
        b" " * MOST_BYTES,
        b"vllm:num_requests_running 1\n" * 100_000,
    ],
    ids=["braces", "backslashes", "quotes", "labels", "spaces", "open quotes", "lines", "one line", "blank", "repeats"],
)
def test_no_bytes_take_longer_than_a_pass_over_them(body: bytes) -> None:
    began = time.process_time()
    read_report(body)
    assert time.process_time() - began < 1.0


def test_mutated_reports_never_raise_and_numbers_stay_in_range() -> None:
    draw = random.Random(3)
    pieces = [b'"', b"{", b"}", b"\\", b"\n", b"NaN", b"-", b"1e999", b"\x00", b"\xff", b" ", b"=", b",", b"_total"]
    for _ in range(3000):
        body = bytearray(VLLM)
        for _ in range(draw.randint(1, 12)):
            place = draw.randrange(len(body))
            if draw.random() < 0.5:
                body[place : place + draw.randint(0, 6)] = draw.choice(pieces)
            else:
                body[place] = draw.randrange(256)
        report = read_report(bytes(body))
        for value in (report.running, report.waiting, report.kv_share, report.kv_capacity_tokens, report.prompt_tokens):
            assert value is None or 0 <= value <= 2**53
        assert report.kv_share is None or report.kv_share <= 1
