"""The command siamese-compare, from a checkout: python scripts/compare.py --help."""

import sys

from siamese.commands.compare import main

if __name__ == "__main__":
    sys.exit(main())
