"""`python -m services.control.cli`: the same as `bridge`."""

from cli.app import main

if __name__ == "__main__":
    main()
