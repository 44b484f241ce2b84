"""Broker: the live decision. A request in words → rows that `route` reads → one engine; knows no connection."""
