"""Cache: answers kept, and when they may be served again; knows no HTTP."""
