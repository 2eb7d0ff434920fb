"""Train embedding networks on labelled images, and study how they are trained."""
