"""The command siamese-embed, from a checkout: python scripts/embed.py --help."""

from siamese.commands.embed import main

if __name__ == "__main__":
    main()
