"""Download one file: in pieces, with resume, and never half a file under its final name."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rsir.errors import DataError

Progress = Callable[[int, int | None], None]
"""Called with the bytes held so far and the whole size, None where the server does not say it."""

_BLOCK = 1 << 18
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class _CutShort(OSError):
    """The connection ended before the whole file was there."""


def download(
    url: str,
    part: Path,
    *,
    progress: Progress | None = None,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> None:
    """Bring `url` to the file `part`, going on from what the file already holds.

    A server that cannot resume is asked for everything again. After a failure the wait doubles.

    Args:
        url: address, http or https.
        part: where the bytes go; left in place when the download fails, so that it can resume.
        progress: told after each block.
        attempts: failures in a row, none of them bringing new bytes, before giving up.
        pause: seconds before the second attempt.
        timeout: seconds without an answer that count as a failure.

    Raises:
        DataError: the address does not exist, or the server keeps failing.
    """
    failures, furthest = 0, _size(part)
    while True:
        try:
            return _attempt(url, part, progress, timeout)
        except urllib.error.HTTPError as error:
            if error.code not in _TRANSIENT:
                raise DataError(f"{url} answered {error.code} {error.reason}; check the address") from None
            reason: Exception = error
        except (OSError, http.client.HTTPException) as error:
            reason = error
        failures = 1 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
        if failures >= attempts:
            raise DataError(
                f"{url} failed {attempts} times in a row ({reason}); {_size(part)} bytes are kept in {part}:"
                " run the same command again to go on from there"
            ) from None
        time.sleep(pause * 2 ** (failures - 1))


def read_small(url: str, timeout: float = 30.0) -> str | None:
    """The text of a small file; None if the server has none (404).

    Raises:
        DataError: the server fails in another way.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return str(answer.read(65_536).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise DataError(f"{url} answered {error.code} {error.reason}; try again later") from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url} cannot be read ({error}); try again later") from None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _attempt(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """One request; returns only when the whole file is there."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if _whole_size(error.headers.get("Content-Range")) == have:
            return
        part.unlink()
        raise _CutShort("the part on disk does not fit the file; starting over") from None
    with answer:
        resumed = answer.status == 206 and _first_byte(answer.headers.get("Content-Range")) == have
        if answer.status == 206 and not resumed:
            raise _CutShort("the server sent another range than asked for")
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
    if total is not None and have < total:
        raise _CutShort(f"the connection ended after {have} of {total} bytes")


def _first_byte(content_range: str | None) -> int | None:
    found = re.match(r"bytes (\d+)-", content_range or "")
    return int(found[1]) if found else None


def _whole_size(content_range: str | None) -> int | None:
    found = re.match(r"bytes \*/(\d+)", content_range or "")
    return int(found[1]) if found else None
