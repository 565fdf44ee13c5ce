"""`python -m hpcsurrogate` is the command line; the ranks of a stage are started this way."""

from hpcsurrogate.cli.main import main

if __name__ == "__main__":
    main()
