"""Agent: the models of one site, on disk and in its engine, as the orchestrator wishes them or as they last worked."""
