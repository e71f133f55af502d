"""How a training run goes: its loop, its saved state, its tests and its metrics."""
