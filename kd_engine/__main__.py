"""`python -m kd_engine` is the command line `kd`."""

from kd_engine.cli import main

if __name__ == "__main__":
    main()
