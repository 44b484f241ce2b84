"""Health: probes, states with hysteresis, burn rates. Tells how things are; routes nothing."""
