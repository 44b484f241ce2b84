"""Control: the running orchestrator. Keeps workers alive, scrapes and probes, answers the admin API."""
