"""The command `pingdata-async`, and `python -m pingdata_async`."""

from pingdata_async.cli.main import main

if __name__ == "__main__":
    main()
