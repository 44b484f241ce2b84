"""Traces: requests as columns. Readers, writers, generators, statistics and overlays; no routing.

    from gridctl.traces.reader import read_trace          any known file → Trace
    from gridctl.traces.writer import write_trace         Trace → native or Mooncake JSON lines
    from gridctl.traces.statistics import statistics      what a trace asks for
    from gridctl.traces.generate import GenerateSpec, generate
    from gridctl.traces.overlay import overlay            origins, workloads and tenants for bare traces
    from gridctl.traces.slicing import cut, merge, repeat, scale_time, take

Nothing is imported here: a trace needs NumPy, and everyday commands do not.
"""
