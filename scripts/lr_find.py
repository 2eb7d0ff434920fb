"""The command siamese-lr-find, from a checkout: python scripts/lr_find.py --help."""

from siamese.commands.lr_find import main

if __name__ == "__main__":
    main()
