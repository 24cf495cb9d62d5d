"""One folder a package: test_x.py tests module x."""
