"""The heart: one event loop full of jobs. Knows no disk, no table and no screen."""
