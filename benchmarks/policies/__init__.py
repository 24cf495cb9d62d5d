"""Ways to pace and to poll, side by side in simulated time."""
