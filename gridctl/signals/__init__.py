"""Signals: what live processes know of each other and of the engines. Shared rows, scrapes, meters; decides nothing."""
