"""Accounts: run rows → tokenomics, SLA, goodput. Pure functions; nothing is rendered or stored here."""
