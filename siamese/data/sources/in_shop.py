"""In-Shop Clothes Retrieval of DeepFashion (Liu et al. 2016): photographs of clothes, several of each."""

from __future__ import annotations

from siamese.data.files import Decoding
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.data.sources.layout import Benchmark, Listing, check_header, collected, lines
from siamese.errors import RunError, nearest

IN_SHOP = Benchmark(
    "In-Shop Clothes Retrieval",
    "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    "img.zip with list_eval_partition.txt beside it",
    "In-shop Clothes Retrieval Benchmark",
    {"train": 25882, "query": 14218, "gallery": 12612},
)
LIST = "list_eval_partition.txt"
COLUMNS = {"image_name": str, "item_id": str, "evaluation_status": str}


@source_of_files
def in_shop(root: str, decoding: Decoding) -> LabelledImages:
    """52,712 photographs of 7,982 items: 3,997 train; of the others, queries are looked for in a gallery.

    Args:
        root: the folder with list_eval_partition.txt (or Eval or Anno, which has it) and img (or Img, which has it).

    Raises:
        ConfigError: when the collection is not there.
        RunError: for a list that is cut, malformed or names what is not there.
    """
    bases = IN_SHOP.places(root)
    lists = [base / below / LIST for base in bases for below in (".", "Eval", "Anno")]
    file = next((file for file in lists if file.is_file()), None)
    folder = next((folder for base in bases for folder in (base, base / "Img") if (folder / "img").is_dir()), None)
    if file is None or folder is None:
        raise IN_SHOP.missing(root, LIST, "img")
    count = next((n for _, (n,) in lines(file, {"a count": int})), 0)
    check_header(file, 2, " ".join(COLUMNS))
    listing = Listing()
    number = 2
    for number, (path, item, part) in lines(file, COLUMNS, first=3):
        if part not in IN_SHOP.counts:
            raise RunError(
                f"{file}:{number}: expected {', '.join(IN_SHOP.counts)}, found {part!r}{nearest(part, IN_SHOP.counts)}"
            )
        listing.add(path, item, part)
    if len(listing.paths) != count:
        raise RunError(f"{file}:{number}: expected {count:,} images, as line 1 says, found {len(listing.paths):,}")
    return collected(IN_SHOP, folder, file, listing, decoding)
