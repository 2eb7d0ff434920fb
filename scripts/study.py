"""The command siamese-study, from a checkout: python scripts/study.py --help."""

from siamese.commands.study import main

if __name__ == "__main__":
    main()
