"""Gateway: HTTP in, engines out, in real time. Streams, cancels, retries, limits; the broker decides."""
