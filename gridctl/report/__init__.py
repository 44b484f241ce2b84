"""The report: one run as a page to hand on, as Markdown and as a terminal's screen. Pure: data in, text out."""
