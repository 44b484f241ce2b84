"""Metrics: every name that gridctl shows to monitoring, in one table: what it is, its unit, what it says.

Names are an interface for operators: dashboards and alarms are built on them, so they change only by addition. Those of
OpenTelemetry's GenAI conventions are still in development and will move: they are written down here and nowhere else.
Sources: Prometheus' naming practices; OpenTelemetry semantic conventions for generative AI, 2026.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """A family of samples. A counter's name ends in `_total`."""

    name: str
    kind: Kind
    help: str


def _counter(name: str, text: str) -> Metric:
    return Metric(f"gridctl_{name}_total", "counter", text)


def _gauge(name: str, text: str) -> Metric:
    return Metric(f"gridctl_{name}", "gauge", text)


def _histogram(name: str, text: str) -> Metric:
    return Metric(f"gridctl_{name}_seconds", "histogram", text)


BUILD = _gauge("build_info", "The version of gridctl that serves; always 1.")
REQUESTS = _counter("requests", "Requests that have ended, by how.")
SITE_REQUESTS = _counter("site_requests", "Requests that have ended at the busiest sites, by how.")
VERDICTS = _counter("slo_events", "Requests that were good, bad or excluded by their workload's promise.")
MISSES = _counter("slo_miss", "Requests that missed an objective.")
DURATION = _histogram("request_duration", "From arrival to the end of a completed answer, as its client sees it.")
TTFT = _histogram("ttft", "From arrival to the first token, as its client sees it.")
SITE_TTFT = _histogram("site_ttft", "From arrival to the first token of answers from the busiest sites.")
SITE_TPOT = _histogram("site_tpot", "Mean time per output token after the first of answers from the busiest sites.")
TPOT = _histogram("tpot", "Mean time per output token after the first.")
DECISION = _histogram("decision", "From arrival to the choice of an engine, reading the body included.")
TOKENS = _counter("tokens", "Tokens of prompts, of prompts found in a cache, and of answers.")
ESTIMATED = _counter("estimated_output_tokens", "Output tokens counted by the gateway because the engine did not say.")
COST = _counter("cost_usd", "Dollars, as the router priced each request when it chose.")
STREAMS = _counter("streams", "Requests that asked for a stream.")
RETRIES = _counter("retries", "Further attempts after the first, on any engine.")
PREDICTIONS = _counter("predictions", "Requests whose predicted time could be compared with what happened.")
PREDICTION_ERROR = _counter(
    "prediction_error_seconds", "Seconds by which predictions were over or under what happened."
)
REJECTED = _counter("rejected", "Requests that were not served, by reason.")
FAILURES = _counter("failures", "Requests that broke or ran out of time, by reason.")
CANCELLED = _counter("client_cancel", "Requests whose client left, by how far they were.")
ENDPOINTS = _counter("endpoint_requests", "Requests by endpoint.")
UPSTREAM_ERRORS = _counter("upstream_errors", "Errors of engines as seen by the gateway, retried ones included.")

IN_FLIGHT = _gauge("inflight", "Requests at an engine now, counted by the gateway.")
PENDING = _gauge("pending_tokens", "Prompt tokens sent to an engine that has not answered yet.")
RUNNING = _gauge("engine_running", "Requests that the engine says it is working on.")
QUEUE = _gauge("queue_depth", "Requests that the engine says are waiting.")
KV_USED = _gauge("kv_used_tokens", "Tokens in the engine's KV cache by its own report.")
KV_CAPACITY = _gauge("kv_capacity_tokens", "Tokens that the engine's KV cache can hold.")
PREFIX_HITS = _gauge(
    "prefix_hit_ratio", "Share of prompt tokens the engine found cached, between its last two reports."
)
TELEMETRY_STATE = _gauge("telemetry_state", "1 for the state of what is known by the engine's own report.")
TELEMETRY_AGE = _gauge("telemetry_age_seconds", "Age of the engine's last report.")
SCRAPE_ERRORS = _counter("scrape_errors", "Reports of the engine that could not be had or believed.")
CIRCUIT = _gauge("circuit_state", "1 for the state of the engine's health.")
ADMITTED = _gauge("admitted_ratio", "Share of traffic that the engine may get.")

WORKERS = _gauge("workers", "Processes of the gateway that are alive.")
CONNECTIONS = _gauge("open_connections", "Connections open now: to clients, to engines.")
LOOP_LAG = _gauge("loop_lag_seconds", "How late a worker's event loop was last.")
BEAT_AGE = _gauge("heartbeat_age_seconds", "Since a worker last said that it lives.")
GENERATION = _gauge("plan_generation", "The plan that a worker follows.")

CACHE_LOOKUPS = _counter("cache_lookups", "Requests by what the cache did: hit by level, miss, bypass.")
CACHE_REASONS = _counter("cache_not_served", "Requests that the cache did not answer, by reason.")
CACHE_STALE = _counter("cache_stale_hits", "Hits that were past their time to live.")
CACHE_SAVED_USD = _counter("cache_saved_usd", "Dollars that engines would have cost for what the cache answered.")
CACHE_SAVED_S = _counter("cache_saved_seconds", "Seconds to the first token that hits did not wait for.")
CACHE_ASKED_AGAIN = _counter("cache_background_requests", "Requests sent to engines to check or renew an answer.")
CACHE_ASKED_AGAIN_USD = _counter("cache_background_usd", "Dollars that those requests cost, billed to nobody.")
CACHE_CHECKED = _counter("cache_checked", "Answers compared with an engine's: audits of hits, and explored misses.")
CACHE_KEPT = _counter("cache_kept", "Answers handed to the cache.")
CACHE_SHARED_LOOKS = _counter("cache_shared_looks", "Looks among other gateways' answers, by what became of them.")
CACHE_SHARED_ANSWERS = _counter("cache_shared_answers", "Answers for other gateways, by what became of them.")
CACHE_SHARED_UP = _gauge("cache_shared_up", "Whether the server that gateways share answers on is asked: 1 or 0.")
CACHE_SHARED_OWED = _gauge("cache_shared_owed", "Purges and stops that this server was not told of yet.")
CACHE_ERROR_BOUND = _gauge("cache_error_bound_ratio", "Most wrong answers over requests that are credible now.")

GENAI_DURATION = Metric(
    "gen_ai_server_request_duration_seconds", "histogram", "Duration of a request, as the gateway sees it."
)
GENAI_TTFT = Metric("gen_ai_server_time_to_first_token_seconds", "histogram", "Time to the first token.")
GENAI_TPOT = Metric("gen_ai_server_time_per_output_token_seconds", "histogram", "Time per token after the first.")
GENAI_TOKENS = Metric("gen_ai_client_token_usage", "histogram", "Tokens per request, in and out.")

GENAI_OPERATION = "gen_ai_operation_name"
GENAI_PROVIDER = "gen_ai_provider_name"
GENAI_MODEL = "gen_ai_request_model"
GENAI_TOKEN_TYPE = "gen_ai_token_type"
GENAI_ERROR = "error_type"
PROVIDER = "openai"
"""The conventions have no word for self-hosted engines: this is the flavour they speak."""
ANY_ERROR = "_OTHER"

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""Every metric, in the order of this page."""
