"""A page to look around in the embedding of one run."""
