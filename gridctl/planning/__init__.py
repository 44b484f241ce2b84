"""Planning: where capacity should stand, found with replays: break-even of edge and core, and cheapest placements."""
