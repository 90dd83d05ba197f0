import gzip
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from rsir.data.download import download
from rsir.data.fetch import PublicDataset, fetch
from rsir.data.public import find_dataset, list_datasets
from rsir.errors import DataError

ROWS = [("A1", f"B{i}", 1_000 + i, float(i % 5 + 1)) for i in range(400)]
REVIEWS = "".join(
    json.dumps({"reviewerID": u, "asin": i, "reviewText": f"{hash(i)}", "overall": r, "unixReviewTime": t})
    + "\n"
    for u, i, t, r in ROWS
)
GZ = gzip.compress(REVIEWS.encode())
AMAZON = replace(find_dataset("amazon-beauty"), rows=400)


def zipped(member: str, text: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return held.getvalue()


class Server:
    """Serves `files`; a cut server ends each answer after `cut` bytes."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True, cut: int | None = None) -> None:
        self.files, self.ranges, self.cut, self.failures = files, ranges, cut, 0
        self.asked: list[tuple[str, str | None]] = []
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        body = self.files.get(handler.path.lstrip("/"))
        if self.failures > 0:
            self.failures -= 1
            return handler.send_error(503)
        if body is None:
            return handler.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        handler.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.ranges:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:][: self.cut])


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_amazon_whole_way(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(Server({AMAZON.filename: GZ})) as server:
        path = fetch(AMAZON, tmp_path, base_url=server.url, progress=lambda *now: seen.append(now))
        assert fetch(AMAZON, tmp_path, base_url=server.url) == path
    assert len(server.asked) == 1
    assert seen[-1] == (len(GZ), len(GZ))
    frame = pl.read_parquet(path)
    assert frame.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "rating": pl.Float32,
    }
    assert frame.rows() == ROWS
    facts = json.loads((tmp_path / "amazon-beauty.json").read_text())
    assert facts["sha256"] == hashlib.sha256(GZ).hexdigest()
    assert (facts["bytes"], facts["events"], facts["users"], facts["items"]) == (len(GZ), 400, 1, 400)
    assert names(tmp_path) == ["amazon-beauty.json", "amazon-beauty.parquet", AMAZON.filename]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ml-100k", "1\t20\t5\t978\n2\t21\t3\t979\n"),
        ("ml-1m", "1::20::5::978\n2::21::3::979\n"),
        ("ml-10m", "1::20::5::978\n2::21::3.5::979\n"),
        ("ml-25m", "userId,movieId,rating,timestamp\n1,20,5.0,978\n2,21,3.5,979\n"),
    ],
)
@pytest.mark.parametrize("md5_published", [True, False])
def test_movielens_forms(name: str, text: str, md5_published: bool, tmp_path: Path) -> None:
    dataset = replace(find_dataset(name), rows=2)
    body = zipped(dataset.member or "", text)
    md5 = f"MD5 ({name}.zip) = {hashlib.md5(body).hexdigest()}\n".encode()
    files = {f"{name}.zip": body} | ({f"{name}.zip.md5": md5} if md5_published else {})
    with serving(Server(files)) as server:
        frame = pl.read_parquet(fetch(dataset, tmp_path, base_url=server.url))
    assert frame.columns == ["user_id", "item_id", "timestamp", "rating"]
    assert frame["user_id"].to_list() == [1, 2]
    assert frame["item_id"].to_list() == [20, 21]
    assert frame["timestamp"].to_list() == [978, 979]
    assert frame["rating"].to_list() == [5, 3.5 if "3.5" in text else 3]
    verified = json.loads((tmp_path / f"{name}.json").read_text())["verified_by"]
    assert ("published MD5" in verified) == md5_published


def test_cut_connection_is_resumed(tmp_path: Path) -> None:
    part, body = tmp_path / "x.part", bytes(range(256)) * 40
    with serving(Server({"x": body}, cut=3_000)) as server:
        download(f"{server.url}/x", part, attempts=2, pause=0.001)
    assert part.read_bytes() == body
    assert [asked for _, asked in server.asked] == [None, "bytes=3000-", "bytes=6000-", "bytes=9000-"]


def test_server_without_ranges_starts_over(tmp_path: Path) -> None:
    part, body = tmp_path / "x.part", bytes(range(256)) * 40
    part.write_bytes(b"what came before")
    with serving(Server({"x": body}, ranges=False)) as server:
        download(f"{server.url}/x", part)
    assert part.read_bytes() == body


def test_interrupted_download_leaves_only_the_part(tmp_path: Path) -> None:
    with serving(Server({AMAZON.filename: GZ}, ranges=False, cut=500)) as server:
        with pytest.raises(DataError, match=r"500 bytes are kept in .*\.part: run the same command again"):
            fetch(AMAZON, tmp_path, base_url=server.url, pause=0.001)
        assert names(tmp_path) == [f"{AMAZON.filename}.part"]
        server.ranges, server.cut = True, None
        assert pl.read_parquet(fetch(AMAZON, tmp_path, base_url=server.url)).height == 400
    assert server.asked[-1][1] == "bytes=500-"


def test_complete_part_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / f"{AMAZON.filename}.part").write_bytes(GZ)
    with serving(Server({AMAZON.filename: GZ})) as server:
        assert fetch(AMAZON, tmp_path, base_url=server.url).exists()
    assert len(server.asked) == 1


def test_part_longer_than_the_file_is_thrown_away(tmp_path: Path) -> None:
    part = tmp_path / "x.part"
    part.write_bytes(b"z" * 99)
    with serving(Server({"x": b"abc"})) as server:
        download(f"{server.url}/x", part, pause=0.001)
    assert part.read_bytes() == b"abc"


def test_busy_server_is_asked_again_and_a_missing_file_is_not(tmp_path: Path) -> None:
    with serving(Server({"x": b"abc"})) as server:
        server.failures = 3
        download(f"{server.url}/x", tmp_path / "x.part", pause=0.001)
        assert (tmp_path / "x.part").read_bytes() == b"abc"
        asked = len(server.asked)
        with pytest.raises(DataError, match="404"):
            fetch(AMAZON, tmp_path / "new", base_url=server.url)
        assert len(server.asked) == asked + 1
    assert names(tmp_path / "new") == []


def test_no_server_at_all(tmp_path: Path) -> None:
    with serving(Server({})) as server:
        gone = server.url
    with pytest.raises(DataError, match="failed 5 times in a row"):
        fetch(AMAZON, tmp_path, base_url=gone, pause=0.001)


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 255]) + body[middle + 1 :]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (flipped(GZ), "is corrupt"),
        (GZ[:-9], "is corrupt"),
        (b"<html>sign in</html>", "is corrupt"),
        (gzip.compress(b'{"reviewerID": "A1"\n'), "is corrupt"),
        (gzip.compress(REVIEWS[: REVIEWS.rindex("{")].encode()), "holds 399 events instead of 400"),
        (gzip.compress(b'{"reviewerID": "A1", "asin": "B1", "overall": 1}\n'), "1 missing values"),
        (b"", "holds 0 events"),
    ],
)
def test_corrupt_gzip_is_refused_and_removed(body: bytes, reason: str, tmp_path: Path) -> None:
    with serving(Server({AMAZON.filename: body})) as server, pytest.raises(DataError, match=reason) as caught:
        fetch(AMAZON, tmp_path, base_url=server.url, pause=0.001)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_corrupt_zip_is_refused_and_removed(tmp_path: Path) -> None:
    body = zipped("ml-100k/u.data", "".join(f"{i}\t{i * i}\t5\t978\n" for i in range(500)))
    dataset = replace(find_dataset("ml-100k"), rows=None)
    wrong = {
        "published is": {"ml-100k.zip": body, "ml-100k.zip.md5": b"0" * 32},
        "without a checksum": {"ml-100k.zip": body, "ml-100k.zip.md5": b"<html>"},
        "is corrupt": {"ml-100k.zip": flipped(body)},
        "no item named": {"ml-100k.zip": zipped("other", "")},
    }
    for reason, files in wrong.items():
        with serving(Server(files)) as server, pytest.raises(DataError, match=reason):
            fetch(dataset, tmp_path, base_url=server.url)
        assert names(tmp_path) == []


def test_blocks_cut_between_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rsir.data.fetch._BLOCK", 700)
    with serving(Server({AMAZON.filename: gzip.compress(REVIEWS.rstrip("\n").encode())})) as server:
        assert pl.read_parquet(fetch(AMAZON, tmp_path, base_url=server.url)).rows() == ROWS


def test_names_are_unique_and_the_nearest_are_named() -> None:
    known = [dataset.name for dataset in list_datasets()]
    assert len(set(known)) == len(known) == 30
    assert find_dataset("MovieLens-1M").name == "ml-1m"
    with pytest.raises(DataError, match="amazon-toys-and-games"):
        find_dataset("toys")
    with pytest.raises(DataError, match="ml-20m"):
        find_dataset("ml-2m")
    assert all(isinstance(dataset, PublicDataset) for dataset in list_datasets())
