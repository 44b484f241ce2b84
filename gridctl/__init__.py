"""gridctl: drive an AI inference grid — sites, clusters, models, traces, prices, SLAs — from one command line."""

__version__ = "0.1.0"
