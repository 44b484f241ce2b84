"""Render: rows → tables, JSON, CSV, Markdown. Computes nothing."""
