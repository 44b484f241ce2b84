"""Grid: resources resolved into arrays, the image that replay and gateway both read."""
