"""Which column is the user, the item, the time: told, or guessed from the usual names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from rsir.errors import DataError

# Compared without case, `_`, `-`, spaces and a RecBole type (`user_id:token`). The first group of
# names that occurs decides; two names of one group are ambiguous.
_USUAL: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (
        ("userid", "user", "uid", "useridx", "userindex"),
        ("visitorid", "customerid", "reviewerid", "memberid", "accountid", "playerid", "authorid"),
        ("sessionid", "session"),
    ),
    "item": (
        ("itemid", "item", "iid", "itemidx", "itemindex"),
        (
            *("parentasin", "asin", "productid", "movieid", "businessid", "trackid", "articleid", "bookid"),
            *("songid", "videoid", "gameid", "newsid", "sku", "gmapid", "adid", "aid", "poiid", "locationid"),
        ),
    ),
    "time": (
        ("timestamp", "time", "ts", "datetime", "unixtime", "unixreviewtime"),
        ("eventtime", "eventtimestamp", "reviewtime", "date", "createdat", "tdat", "timems"),
    ),
}


@dataclass(frozen=True)
class Columns:
    """The names of the columns to read; `time` is None where file order is the order.

    Attributes:
        notes: which of them were guessed.
    """

    user: str
    item: str
    time: str | None
    notes: tuple[str, ...] = ()


def normalise(name: str) -> str:
    """A column name as the table of usual names spells it.

    >>> normalise("User-ID"), normalise("item_id:token")
    ('userid', 'itemid')
    """
    plain = name.split(":")[0].strip().lower()
    return plain.replace("_", "").replace("-", "").replace(" ", "")


def is_user_name(name: str) -> bool:
    """Whether a word looks like the head of a column of users."""
    return any(normalise(name) in group for group in _USUAL["user"])


def find_columns(names: Sequence[str], user: str | None, item: str | None, time: str | None) -> Columns:
    """The columns told, or guessed where None.

    Raises:
        DataError: if a told column does not exist, or a guess finds no column or several.
    """
    told = {"user": user, "item": item, "time": time}
    found = {what: _told(names, name, what) if name else _guess(names, what) for what, name in told.items()}
    for what in ("user", "item"):
        if found[what] is None:
            raise DataError(_no_match(names, what))
    if len(set(found.values())) < len(found):
        raise DataError(f"one column is named for two purposes: {found}; each needs its own")
    guessed = [f"{what} {found[what]!r}" for what in told if not told[what] and found[what]]
    notes = [f"columns guessed: {', '.join(guessed)}"] if guessed else []
    assert found["user"] is not None
    assert found["item"] is not None
    return Columns(found["user"], found["item"], found["time"], tuple(notes))


def _told(names: Sequence[str], name: str, what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; give one of them with --{what}-column"
    raise DataError(f"no column {name!r} (columns: {_listed(names)}){hint}")


def _guess(names: Sequence[str], what: str) -> str | None:
    for group in _USUAL[what]:
        matches = [name for name in names if normalise(name) in group]
        if len(matches) > 1:
            raise DataError(
                f"columns {_listed(matches)} could each be the {what}: choose with --{what}-column"
            )
        if matches:
            return matches[0]
    return None


def _no_match(names: Sequence[str], what: str) -> str:
    message = f"no column has a usual name for the {what} (columns: {_listed(names)}): "
    if len(names) == 1:
        return message + "only one column, so check the separator (--separator)"
    return message + f"name it with --{what}-column, or say --no-header if the first line is an event"


def _listed(names: Sequence[str]) -> str:
    more = ", …" if len(names) > 12 else ""
    return ", ".join(repr(name) for name in names[:12]) + more
