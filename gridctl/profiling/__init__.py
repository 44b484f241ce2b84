"""Step-time profiles from measurements: operator tables, live engines, and how well a profile predicts a run."""
