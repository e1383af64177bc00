"""`python -m tasker`: the command line."""

import sys

from tasker.cli import main

if __name__ == "__main__":
    sys.exit(main())
