"""What a collection of images holds, looked at before anything is trained on it."""

from siamese.survey.look import Survey, look
from siamese.survey.near import near_duplicates, perceptual_hashes

__all__ = ["Survey", "look", "near_duplicates", "perceptual_hashes"]
