"""Run, convert and compress trained networks."""
