"""Engine: the twin of an inference engine. Step times, batching, paged KV, prefix cache, serverless CPU; no grid."""
