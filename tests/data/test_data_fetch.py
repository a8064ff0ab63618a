"""Fetching corpora: by the hub's own client from a hub on loopback; checked, recorded, and never over what the user made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from nertune.cli import main
from nertune.data.fetch import CORPORA, FetchManifest, PublicCorpus, Source, fetch, named
from nertune.data.fetch.files import EVERY_DATA_FILE, chosen, verified
from nertune.data.fetch.hubs import HubFile
from nertune.errors import DiskSpaceError, EndpointError, InputError

ROW = '{"text": "叶老桂在北京。", "entities": [{"start": 0, "end": 3, "label": "人名"}]}\n'
COMMIT = "a" * 40
LATER = "b" * 40


class FakeHub:
    """What a hub holds, by data set and commit: {path: content}; `asked`: every request, and from which byte."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, dict[str, str]] = {}
        self.refused: dict[str, tuple[int, str]] = {}
        self.large: set[str] = set()
        self.asked: list[tuple[str, str, int]] = []
        self.breaks_at: int | None = None
        self.withheld: set[str] = set()
        self.reason = "Withheld"
        self.lies: dict[str, bytes] = {}
        self.licence: str | None = "cc-by-4.0"

    def put(self, name: str, files: dict[str, bytes | str], commit: str = COMMIT, branch: str = "main") -> None:
        content = {path: body.encode() if isinstance(body, str) else body for path, body in files.items()}
        self.sets.setdefault(name, {})[commit] = content
        self.heads.setdefault(name, {})[branch] = commit

    def commit(self, name: str, revision: str) -> str | None:
        commits = self.sets.get(name, {})
        return revision if revision in commits else self.heads.get(name, {}).get(revision)

    def described(self, path: str, body: bytes) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        row: dict[str, Any] = {
            "type": "file",
            "path": path,
            "rfilename": path,
            "size": len(body),
            "oid": git,
            "blobId": git,
        }
        if path in self.large:
            sha256 = hashlib.sha256(body).hexdigest()
            row["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(body), "pointerSize": 130}
        return row


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub

    def log_message(self, *parts: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
        self.hub.asked.append((self.command, path, start))
        api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
        file = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        if found is None:
            return self.fail(404, "EntryNotFound")
        name = found[1]
        if name in self.hub.refused:
            return self.fail(*self.hub.refused[name])
        if name not in self.hub.sets:
            return self.fail(404, "RepoNotFound")
        revision = (api[3] if api else file[2]) or "main"  # type: ignore[index]
        commit = self.hub.commit(name, revision)
        if commit is None:
            return self.fail(404, "RevisionNotFound")
        files = self.hub.sets[name][commit]
        rows = [self.hub.described(path, body) for path, body in files.items()]
        if file and file[3] in self.hub.withheld:
            return self.fail(403, self.hub.reason)
        if file:
            return self.file(commit, file[3], files, start)
        if api[2] == "tree":  # type: ignore[index]
            return self.json(rows)
        card = {"license": self.hub.licence} if self.hub.licence else {}
        return self.json({"id": name, "sha": commit, "cardData": card, "tags": [], "siblings": rows})

    def file(self, commit: str, path: str, files: dict[str, bytes], start: int) -> None:
        body = self.hub.lies.get(path, files[path])
        row = self.hub.described(path, files[path])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{row["lfs"]["oid"] if "lfs" in row else row["oid"]}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET":
            end, self.hub.breaks_at = self.hub.breaks_at or len(body), None
            self.wfile.write(body[start:end])

    def json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving(hub: FakeHub) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[FakeHub]:
    """A hub on loopback that the client knows as the only one, an empty cache, and a working directory."""
    from huggingface_hub import constants

    found = FakeHub()
    with serving(found) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "".join(template[1:]))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield found


@pytest.fixture
def corpus(hub) -> FakeHub:
    """The hub with one data set, team/news: two files of data, and much that is none."""
    files = {
        "data/train.jsonl": ROW * 3,
        "data/dev.jsonl": ROW,
        "news.py": "raise SystemExit('run!')",
        "model.pkl": b"\x80\x04",
        "README.md": "# News",
        ".gitattributes": "",
        "dataset_infos.json": "{}",
    }
    hub.put("team/news", files)
    hub.large = {"data/train.jsonl"}
    return hub


def test_data_files_come_and_nothing_else(corpus, capsys):
    assert main(["data", "fetch", "team/news"]) == 0
    said = capsys.readouterr()
    folder = Path("news")
    assert said.out == "news\n"
    held = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert held == ["data/dev.jsonl", "data/train.jsonl", "fetched.json"]
    assert (folder / "data/train.jsonl").read_text(encoding="utf-8") == ROW * 3
    assert not (folder / "data/train.jsonl").is_symlink()
    assert "5 others left there" in said.err
    assert "Next: nertune data audit news/data/dev.jsonl news/data/train.jsonl" in said.err
    assert not any("news.py" in path or "model.pkl" in path for _, path, _ in corpus.asked)


def test_the_licence_is_said_before_anything_is_downloaded(corpus):
    seen: list[tuple[str, int]] = []
    fetch("team/news", said=lambda line: seen.append((line, sum("/resolve/" in path for _, path, _ in corpus.asked))))
    (asked,) = [asked for line, asked in seen if "licence: cc-by-4.0" in line]
    assert asked == 0
    assert any("https://huggingface.co/datasets/team/news" in line for line, _ in seen)


def test_a_licence_that_nobody_states_is_said_to_be_so(corpus):
    corpus.licence = None
    seen: list[str] = []
    assert fetch("team/news", said=seen.append).manifest.licence is None
    assert any("licence: not stated" in line for line in seen)


def test_the_manifest_holds_what_is_needed_to_fetch_the_same_again(corpus):
    fetch("team/news", "out")
    found = FetchManifest.read(Path("out"))
    assert (found.hub, found.repository, found.asked, found.revision) == ("huggingface", "team/news", None, COMMIT)
    assert found.licence == "cc-by-4.0"
    assert found.sums["data/dev.jsonl"] == hashlib.sha256(ROW.encode()).hexdigest()
    assert [file.size for file in found.files] == [len(ROW.encode()), 3 * len(ROW.encode())]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.date)


def test_a_second_fetch_asks_nothing_and_changes_nothing(corpus):
    first = fetch("team/news")
    corpus.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in Path("news").rglob("*")}
    seen: list[str] = []
    again = fetch("team/news", said=seen.append)
    assert (first.new, again.new) == (2, 0)
    assert corpus.asked == []
    assert before == {path: path.stat().st_mtime_ns for path in Path("news").rglob("*")}
    assert any("licence: cc-by-4.0" in line for line in seen)


def test_a_file_that_went_missing_comes_back_from_the_same_revision(corpus):
    fetch("team/news")
    corpus.put("team/news", {"data/train.jsonl": "other", "data/dev.jsonl": "other"}, LATER)
    Path("news/data/dev.jsonl").unlink()
    again = fetch("team/news")
    assert (again.new, again.manifest.revision) == (1, COMMIT)
    assert Path("news/data/dev.jsonl").read_text(encoding="utf-8") == ROW


def test_another_revision_replaces_what_was_not_changed(corpus):
    fetch("team/news")
    corpus.put("team/news", {"data/train.jsonl": ROW * 5, "data/dev.jsonl": ROW}, LATER)
    moved = fetch("team/news", revision="main")
    assert (moved.new, moved.manifest.revision, moved.manifest.asked) == (1, LATER, "main")
    assert Path("news/data/train.jsonl").read_text(encoding="utf-8") == ROW * 5
    assert fetch("team/news", revision=COMMIT).new == 1


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_file_that_the_user_changed_is_never_written_over(corpus, capsys, revision):
    fetch("team/news")
    mine = Path("news/data/dev.jsonl")
    mine.write_text("mine", encoding="utf-8")
    corpus.put("team/news", {"data/train.jsonl": ROW, "data/dev.jsonl": ROW * 2}, LATER)
    corpus.asked.clear()
    assert main(["data", "fetch", "team/news", *(["--revision", revision] if revision else [])]) == 2
    assert "news/data/dev.jsonl: was changed since it was fetched" in capsys.readouterr().err
    assert mine.read_text(encoding="utf-8") == "mine"
    assert not any("/resolve/" in path for _, path, _ in corpus.asked)


def test_a_file_that_no_fetch_put_there_is_never_written_over(corpus, capsys):
    mine = Path("news/data/train.jsonl")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine", encoding="utf-8")
    assert main(["data", "fetch", "team/news"]) == 2
    assert "was not fetched; move it away" in capsys.readouterr().err
    assert mine.read_text(encoding="utf-8") == "mine"
    assert not Path("news/data/dev.jsonl").exists()


def test_a_fetch_that_was_cut_off_before_its_manifest_is_taken_up(corpus):
    fetch("team/news")
    Path("news/fetched.json").unlink()
    assert fetch("team/news").new == 0
    assert Path("news/fetched.json").is_file()


def test_one_folder_holds_one_corpus(corpus, capsys):
    corpus.put("team/other", {"a.jsonl": ROW})
    fetch("team/news", "out")
    assert main(["data", "fetch", "team/other", "--out", "out"]) == 2
    assert "out: holds news of huggingface:team/news" in capsys.readouterr().err


def test_a_connection_that_broke_goes_on_where_it_was(corpus, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    body = b"x" * 300_000
    corpus.put("team/large", {"train.txt": body})
    corpus.breaks_at = 200_000
    fetch("team/large", "out")
    assert Path("out/train.txt").read_bytes() == body
    asked = [start for command, path, start in corpus.asked if command == "GET" and path.endswith("/train.txt")]
    assert asked == [0, 200_000]


def test_files_that_came_whole_are_not_asked_for_again(corpus):
    corpus.withheld = {"data/train.jsonl"}
    with pytest.raises(EndpointError, match="huggingface:team/news"):
        fetch("team/news")
    assert not Path("news").exists()
    corpus.withheld = set()
    fetch("team/news")
    downloads = [
        path.rpartition("/")[2] for command, path, _ in corpus.asked if command == "GET" and "/resolve/" in path
    ]
    assert sorted(downloads) == ["dev.jsonl", "train.jsonl"]


def test_offline_takes_what_the_cache_has_and_asks_nobody(corpus, capsys, monkeypatch):
    fetch("team/news", "first")
    corpus.asked.clear()
    assert main(["data", "fetch", "team/news", "--out", "second", "--offline"]) == 0
    assert f"at {COMMIT}, from the cache" in capsys.readouterr().err
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["data", "fetch", "team/news", "--out", "third", "--revision", COMMIT]) == 0
    assert corpus.asked == []
    sums = [FetchManifest.read(Path(out)).sums for out in ("first", "second", "third")]
    assert sums[0] == sums[1] == sums[2]
    assert FetchManifest.read(Path("second")).revision == COMMIT


def test_offline_without_a_cache_is_said(corpus, capsys):
    assert main(["data", "fetch", "team/news", "--offline"]) == 2
    assert "is not, or not whole, in the cache; fetch it once with a network" in capsys.readouterr().err
    assert not Path("news").exists()


def test_content_that_is_not_what_the_hub_says_is_not_put_in_place(corpus, capsys):
    for path, kind in (("data/train.jsonl", "SHA-256"), ("data/dev.jsonl", "git checksum")):
        good = corpus.sets["team/news"][COMMIT][path]
        corpus.lies = {path: b"?" * len(good)}
        shutil.rmtree(Path("../cache"), ignore_errors=True)
        assert main(["data", "fetch", "team/news"]) == 1
        said = capsys.readouterr().err
        assert f"{path}: what came is not what it should be: its {kind} is" in said
        assert "Nothing was put in place" in said
        assert not Path("news").exists()


def test_a_checksum_of_the_catalogue_is_held(corpus, monkeypatch, capsys):
    right = hashlib.sha256((ROW * 3).encode()).hexdigest()
    for sha256, code in ((right, 0), ("0" * 64, 1)):
        source = Source("huggingface", "team/news", ("data/train*",), COMMIT, {"data/train.jsonl": sha256})
        entry = PublicCorpus("pinned", "a corpus", (source,))
        monkeypatch.setattr("nertune.data.fetch.catalogue.CORPORA", {"pinned": entry})
        assert main(["data", "fetch", "pinned", "--out", f"out{code}"]) == code
    assert f"and the catalogue says {'0' * 64}" in capsys.readouterr().err
    assert main(["data", "fetch", "pinned", "--revision", "main", "--out", "other"]) == 0


def test_what_the_manifest_says_is_held(corpus, capsys):
    fetch("team/news")
    Path("news/data/dev.jsonl").unlink()
    manifest = json.loads(Path("news/fetched.json").read_text(encoding="utf-8"))
    manifest["files"][0]["sha256"] = "1" * 64
    Path("news/fetched.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert main(["data", "fetch", "team/news"]) == 1
    assert f"and fetched.json says {'1' * 64}" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"files": [{"path": 1}]}', "[" * 100_000])
def test_a_damaged_manifest_is_said_and_kept(corpus, capsys, damage):
    Path("news").mkdir()
    Path("news/fetched.json").write_text(damage, encoding="utf-8")
    assert main(["data", "fetch", "team/news"]) == 2
    assert "news/fetched.json: is not what a fetch writes" in capsys.readouterr().err
    assert Path("news/fetched.json").read_text(encoding="utf-8") == damage


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((403, "GatedRepo"), "is gated: accept its terms on"),
        ((401, "RepoNotFound"), "no such data set, or a private one"),
        ((404, "RepoNotFound"), "no such data set, or a private one"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(corpus, capsys, refusal, said):
    corpus.refused["team/news"] = refusal
    assert main(["data", "fetch", "team/news"]) == 2
    error = capsys.readouterr().err
    assert f"huggingface:team/news: {said}" in error
    assert error.count("\n") == 1


def test_a_gated_set_whose_files_are_listed_is_gated_all_the_same(corpus, capsys):
    corpus.withheld, corpus.reason = {"data/train.jsonl"}, "GatedRepo"
    assert main(["data", "fetch", "team/news"]) == 2
    assert "is gated: accept its terms on" in capsys.readouterr().err
    assert not Path("news").exists()


def test_a_hub_that_fails_is_its_fault(corpus, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    corpus.refused["team/news"] = (500, "hf_secret broke")
    assert main(["data", "fetch", "team/news"]) == 1
    error = capsys.readouterr().err
    assert "huggingface:team/news: " in error
    assert "--from another hub" in error
    assert "hf_secret" not in error


def test_no_network_is_said(corpus, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["data", "fetch", "team/news"]) == 1
    error = capsys.readouterr().err
    assert "HF_ENDPOINT names a mirror, --offline takes what was fetched before" in error
    assert error.count("\n") == 1


def test_a_missing_revision_is_said(corpus, capsys):
    assert main(["data", "fetch", "team/news", "--revision", "v9"]) == 2
    assert "has no revision 'v9'; name another: --revision" in capsys.readouterr().err


def test_an_unknown_name_meets_the_nearest(capsys):
    for name, near in (("clunner", "cluener"), ("CoNLL-2003", "conll2003"), ("wiebo", "weibo")):
        assert main(["data", "fetch", name]) == 2
        assert f"there is no corpus {name!r}; did you mean {near!r}?" in capsys.readouterr().err
    for name in ("a/b/c", "../x", "a/..", ".a/b", "a b/c", "名/字", ""):
        with pytest.raises(InputError, match="there is no corpus"):
            named(name)


def test_a_full_disk_is_said_before_the_download(corpus, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert main(["data", "fetch", "team/news"]) == 1
    assert "bytes, and the disk has 100 left; nothing was downloaded" in capsys.readouterr().err
    assert not any("/resolve/" in path for _, path, _ in corpus.asked)


def test_a_disk_that_fills_up_on_the_way_is_said(corpus, monkeypatch):
    import huggingface_hub

    def full(*parts, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(DiskSpaceError, match="no room left in the cache"):
        fetch("team/news")


@pytest.mark.parametrize(
    "name", ["../out.jsonl", "a/../../out.jsonl", "/etc/out.jsonl", "a//b.jsonl", "C:\\x.jsonl", "a\nb.txt"]
)
def test_a_name_that_would_leave_the_folder_is_refused(hub, name, capsys):
    hub.put("team/evil", {"good.jsonl": ROW, name: ROW})
    assert main(["data", "fetch", "team/evil"]) == 2
    assert "which may not be written; nothing was downloaded" in capsys.readouterr().err
    assert not any("/resolve/" in path for _, path, _ in hub.asked)
    assert list(Path().iterdir()) == []


def test_nothing_is_written_through_a_link(corpus, tmp_path, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    Path("news").mkdir()
    Path("news/data").symlink_to(outside)
    assert main(["data", "fetch", "team/news"]) == 2
    assert "news/data: is a link, through which nothing is written" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


def test_a_cache_that_links_out_of_itself_is_not_followed(corpus, tmp_path):
    fetch("team/news")
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    cached = tmp_path / "cache" / "datasets--team--news" / "snapshots" / COMMIT / "data" / "dev.jsonl"
    cached.unlink()
    cached.symlink_to(tmp_path / "secret")
    with pytest.raises(EndpointError, match=r"data/dev\.jsonl did not come"):
        fetch("team/news", "out", offline=True)


def test_names_that_differ_in_case_alone_have_one_place():
    with pytest.raises(InputError, match="differ in case alone"):
        chosen([HubFile("A.txt"), HubFile("a.txt")], EVERY_DATA_FILE, where="hub")


def test_a_repository_of_code_alone_is_explained(hub, capsys):
    hub.put("team/script", {"script.py": "", "README.md": ""})
    hub.put("team/script", {"default/train/0000.parquet": b"PAR1"}, LATER, "refs/convert/parquet")
    assert main(["data", "fetch", "team/script"]) == 2
    said = capsys.readouterr().err
    assert "only a loading script (script.py), which is never run" in said
    assert "--revision refs/convert/parquet" in said
    assert main(["data", "fetch", "team/script", "--revision", "refs/convert/parquet"]) == 0
    assert Path("script/default/train/0000.parquet").read_bytes() == b"PAR1"


def test_files_are_chosen_by_pattern_and_added_to_those_there(corpus, capsys):
    assert main(["data", "fetch", "team/news", "--files", "*dev*"]) == 0
    assert not Path("news/data/train.jsonl").exists()
    assert main(["data", "fetch", "team/news", "--files", "*train*"]) == 0
    assert list(FetchManifest.read(Path("news")).sums) == ["data/dev.jsonl", "data/train.jsonl"]
    for code in ("*.py", "*.pkl"):
        assert main(["data", "fetch", "team/news", "--files", code]) == 2
        assert f"no file fits {code}" in capsys.readouterr().err
    assert main(["data", "fetch", "team/news", "--files", "*zh*"]) == 2
    assert "no file fits *zh*" in capsys.readouterr().err


def test_a_name_with_the_signs_of_a_pattern_is_a_name(hub):
    hub.put("team/signs", {"a[1]*?.jsonl": ROW, "a1bc.jsonl": ROW})
    assert [path.name for path in fetch("team/signs").files] == ["a1bc.jsonl", "a[1]*?.jsonl"]


def test_the_list_of_files_downloads_nothing(corpus, capsys):
    assert main(["data", "fetch", "team/news", "--list"]) == 0
    said = capsys.readouterr()
    size = len(ROW.encode())
    assert said.out == f"data/dev.jsonl\t{size}\ndata/train.jsonl\t{3 * size}\n"
    assert "5 others are no data, or fit no pattern" in said.err
    assert list(Path().iterdir()) == []
    assert not any("/resolve/" in path for _, path, _ in corpus.asked)


def test_the_list_of_corpora_needs_no_network(capsys):
    assert main(["data", "fetch", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("cluener", "cmeee", "ccfbdci", "msra", "weibo", "resume", "conll2003"))
    assert main(["data", "fetch"]) == 2
    assert "--list names them" in capsys.readouterr().err


def test_every_entry_of_the_catalogue_is_whole():
    for name, corpus in CORPORA.items():
        assert corpus.name == name
        assert corpus.about
        for source in corpus.sources:
            assert source.hub in ("huggingface", "modelscope")
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
            assert source.format in (None, "entities", "conll", "hf")
            revision = source.revision
            assert revision is None or revision.startswith("refs/") or re.fullmatch("[0-9a-f]{40}", revision)
            assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in source.sha256.values())


def test_a_corpus_that_is_on_one_hub_alone_says_so(capsys):
    assert main(["data", "fetch", "cluener", "--from", "modelscope"]) == 2
    assert "cluener is known on huggingface, not on modelscope" in capsys.readouterr().err


def test_git_checksums_are_gits(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    said = HubFile("a", 6, None, "ce013625030ba8dba906f756967f9e9ca394464a")
    assert verified(tmp_path / "a", said, {}) == hashlib.sha256(b"hello\n").hexdigest()


def test_the_environment_alone_leads_the_client(tmp_path):
    found = FakeHub()
    found.put("team/news", {"train.jsonl": ROW})
    with serving(found) as address:
        outside = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        run = subprocess.run(
            [sys.executable, "-m", "nertune", "data", "fetch", "team/news"],
            cwd=tmp_path,
            env={**outside, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert (run.returncode, run.stdout) == (0, "news\n"), run.stderr
    assert (tmp_path / "news" / "train.jsonl").read_text(encoding="utf-8") == ROW


@pytest.fixture
def scope(tmp_path, monkeypatch):
    """ModelScope's client, replaced by one that copies from a folder; `state` is what it was asked, and how it fails."""
    state = SimpleNamespace(asked=[], fails=None, root=tmp_path / "hub", cache=tmp_path / "ms" / "snapshots" / "master")
    state.root.mkdir()

    class HubApi:
        def __init__(self, token=None):
            state.asked.append(token)

        def get_dataset_files(self, repository, *, revision, page_number, page_size):
            if state.fails:
                raise state.fails
            paths = sorted(state.root.rglob("*"))[(page_number - 1) * page_size : page_number * page_size]
            return [
                {
                    "Path": path.relative_to(state.root).as_posix(),
                    "Type": "tree" if path.is_dir() else "blob",
                    "Size": path.stat().st_size,
                    "Sha256": "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in paths
            ]

    def snapshot_download(*, repo_id, repo_type, revision, allow_patterns, local_files_only):
        assert repo_type == "dataset"
        state.asked.append((repo_id, revision, tuple(allow_patterns), local_files_only))
        if not local_files_only:
            shutil.copytree(state.root, state.cache, dirs_exist_ok=True)
        elif not state.cache.exists():
            raise type("CacheNotFound", (Exception,), {})("nothing")
        return str(state.cache)

    modules = {name: ModuleType(name) for name in ("modelscope", "modelscope.hub")}
    modules["modelscope.hub.api"] = ModuleType("modelscope.hub.api")
    modules["modelscope.hub.api"].HubApi = HubApi
    modules["modelscope.hub.snapshot_download"] = ModuleType("modelscope.hub.snapshot_download")
    modules["modelscope.hub.snapshot_download"].snapshot_download = snapshot_download
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("MODELSCOPE_API_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return state


def test_modelscope_by_its_own_client(scope, capsys, monkeypatch):
    for name in ("train.txt", "dev.txt", "test.txt", "resume.py", "more/x.txt"):
        (scope.root / name).parent.mkdir(exist_ok=True)
        (scope.root / name).write_text(name, encoding="utf-8")
    assert main(["data", "fetch", "resume"]) == 0
    said = capsys.readouterr()
    assert said.out == "resume\n"
    assert "modelscope:damo/resume_ner at master" in said.err
    assert "cite: Zhang and Yang 2018" in said.err
    assert sorted(path.name for path in Path("resume").iterdir()) == [
        "dev.txt",
        "fetched.json",
        "test.txt",
        "train.txt",
    ]
    assert scope.asked[-1] == ("damo/resume_ner", "master", ("dev.txt", "test.txt", "train.txt"), False)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    assert main(["data", "fetch", "any/thing", "--from", "modelscope"]) == 0
    assert Path("thing/more/x.txt").is_file()
    assert "ms-secret" in scope.asked
    assert "ms-secret" not in capsys.readouterr().err
    assert main(["data", "fetch", "resume", "--offline", "--out", "again"]) == 0


def test_modelscope_lists_page_by_page(scope):
    for number in range(230):
        (scope.root / f"{number:03}.txt").write_text(str(number), encoding="utf-8")
    assert len(fetch("any/thing", hub="modelscope").files) == 230


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("NotExistError", 2, "no such data set"),
        ("NoValidRevisionError", 2, "has no revision 'v1'"),
        ("AuthenticationError", 2, "is private or gated"),
        ("NetworkError", 1, "broke"),
    ],
)
def test_what_modelscope_refuses_is_one_sentence(scope, capsys, name, code, said):
    scope.fails = type(name, (Exception,), {})("broke\nand more")
    assert main(["data", "fetch", "any/thing", "--from", "modelscope", "--revision", "v1"]) == code
    error = capsys.readouterr().err
    assert f"modelscope:any/thing: {said}" in error
    assert error.count("\n") == 1


def test_modelscopes_cache_is_missed_in_words(scope, capsys):
    assert main(["data", "fetch", "resume", "--offline"]) == 2
    assert "is not in the cache" in capsys.readouterr().err


def test_the_extra_is_named_where_the_client_is_absent(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "modelscope", None)
    assert main(["data", "fetch", "resume"]) == 2
    assert "pip install 'nertune[modelscope]'" in capsys.readouterr().err
