"""The public data sets that rsir knows by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from rsir.errors import DataError

Form = Literal["amazon-json", "tabs", "colons", "csv"]


@dataclass(frozen=True)
class PublicDataset:
    """Where a data set lies and how it is read.

    Attributes:
        name: what it is called here.
        url: address of the archive.
        form: how its events are written: JSON lines in gzip ("amazon-json"), or a member of a zip
            with tabs, double colons, or commas and a header.
        member: path of the events inside a zip; None for gzip.
        rows: number of events it is known to hold; None if not known.
        citation: what to cite.
        licence: what its owners allow, in short.
    """

    name: str
    url: str
    form: Form
    member: str | None
    rows: int | None
    citation: str
    licence: str

    @property
    def filename(self) -> str:
        """Last part of the address."""
        return self.url.rsplit("/", 1)[-1]


_AMAZON = "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_AMAZON_ROWS: dict[str, int | None] = {
    "Amazon_Instant_Video": None,
    "Apps_for_Android": None,
    "Automotive": None,
    "Baby": None,
    "Beauty": 198_502,
    "Books": None,
    "CDs_and_Vinyl": None,
    "Cell_Phones_and_Accessories": None,
    "Clothing_Shoes_and_Jewelry": None,
    "Digital_Music": None,
    "Electronics": None,
    "Grocery_and_Gourmet_Food": None,
    "Health_and_Personal_Care": None,
    "Home_and_Kitchen": None,
    "Kindle_Store": None,
    "Movies_and_TV": None,
    "Musical_Instruments": None,
    "Office_Products": None,
    "Patio_Lawn_and_Garden": None,
    "Pet_Supplies": None,
    "Sports_and_Outdoors": 296_337,
    "Tools_and_Home_Improvement": None,
    "Toys_and_Games": 167_597,
    "Video_Games": None,
}
_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_MOVIELENS_FORMS: dict[str, tuple[Form, str, int]] = {
    "ml-100k": ("tabs", "ml-100k/u.data", 100_000),
    "ml-1m": ("colons", "ml-1m/ratings.dat", 1_000_209),
    "ml-10m": ("colons", "ml-10M100K/ratings.dat", 10_000_054),
    "ml-20m": ("csv", "ml-20m/ratings.csv", 20_000_263),
    "ml-25m": ("csv", "ml-25m/ratings.csv", 25_000_095),
    "ml-32m": ("csv", "ml-32m/ratings.csv", 32_000_204),
}


def _amazon(category: str, rows: int | None) -> PublicDataset:
    short = category.removeprefix("Amazon_").lower().replace("_", "-")
    return PublicDataset(
        name=f"amazon-{short}",
        url=f"{_AMAZON}/reviews_{category}_5.json.gz",
        form="amazon-json",
        member=None,
        rows=rows,
        citation="R. He and J. McAuley, Ups and Downs, WWW 2016; J. McAuley et al., Image-based"
        " Recommendations on Styles and Substitutes, SIGIR 2015",
        licence="published for research by its authors; no licence is stated",
    )


def _movielens(name: str, form: Form, member: str, rows: int) -> PublicDataset:
    return PublicDataset(
        name=name,
        url=f"{_MOVIELENS}/{name}.zip",
        form=form,
        member=member,
        rows=rows,
        citation="F. M. Harper and J. A. Konstan, The MovieLens Datasets, ACM TiiS 5(4):19, 2015",
        licence="GroupLens: research use under the terms of the README inside the archive",
    )


_DATASETS = (
    *(_amazon(category, rows) for category, rows in _AMAZON_ROWS.items()),
    *(_movielens(name, *form) for name, form in _MOVIELENS_FORMS.items()),
)


def list_datasets() -> tuple[PublicDataset, ...]:
    """All data sets known by name: Amazon 2014 (5-core) and MovieLens.

    >>> [dataset.name for dataset in list_datasets()][-2:]
    ['ml-25m', 'ml-32m']
    """
    return _DATASETS


def find_dataset(name: str) -> PublicDataset:
    """The data set of that name; case and underscores do not matter.

    Raises:
        DataError: if there is none; the message names the nearest.

    >>> find_dataset("Amazon_Beauty").filename
    'reviews_Beauty_5.json.gz'
    """
    wanted = name.lower().replace("_", "-").replace("movielens", "ml")
    known = {dataset.name: dataset for dataset in _DATASETS}
    if wanted in known:
        return known[wanted]
    within = [other for other in known if wanted and wanted in other]
    near = within or difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) or list(known)
    raise DataError(f"no public data set is called {name!r}; the nearest are {', '.join(near[:3])}")
