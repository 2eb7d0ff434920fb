"""The command siamese-export, from a checkout: python scripts/export.py --help."""

from siamese.commands.export import main

if __name__ == "__main__":
    main()
