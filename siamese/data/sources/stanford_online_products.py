"""Stanford Online Products (Song et al. 2016): photographs of things for sale, a few of each."""

from __future__ import annotations

from siamese.data.files import Decoding
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.data.sources.layout import Benchmark, Listing, check_header, collected, lines

PRODUCTS = Benchmark(
    "Stanford Online Products",
    "https://cvgl.stanford.edu/projects/lifted_struct/",
    "Stanford_Online_Products.zip",
    "Stanford_Online_Products",
    {"train": 59551, "test": 60502},
)
COLUMNS = {"image_id": int, "class_id": int, "super_class_id": int, "path": str}


@source_of_files
def stanford_online_products(root: str, decoding: Decoding) -> LabelledImages:
    """120,053 photographs of 22,634 products: 11,318 train, the other 11,316 test, as its two lists say.

    Args:
        root: the folder Stanford_Online_Products, or that it is in.

    Raises:
        ConfigError: when the collection is not there.
        RunError: for lists that are malformed or name what is not there.
    """
    folder = PRODUCTS.unpacked(root, "Ebay_train.txt", "Ebay_test.txt")
    listing = Listing()
    for part in ("train", "test"):
        file = folder / f"Ebay_{part}.txt"
        check_header(file, 1, " ".join(COLUMNS))
        for _, (_, of_class, _, path) in lines(file, COLUMNS, first=2):
            listing.add(path, of_class, part)
    return collected(PRODUCTS, folder, folder / "Ebay_*.txt", listing, decoding)
