"""`python -m trainer`."""

import logging
import os
import sys

from trainer.cli import main

if __name__ == "__main__":
    code = main(sys.argv[1:], os.environ)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a compilation given up may still run in its thread, and the interpreter does not end under it.
    os._exit(code)
