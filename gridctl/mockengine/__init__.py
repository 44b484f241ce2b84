"""Mock engine: an OpenAI-compatible engine on loopback whose timing is the twin's, token by token."""
