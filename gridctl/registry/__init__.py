"""Registry: desired state, versions, events and runs. The only room with SQL."""
