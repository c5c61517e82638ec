"""Files fetched into a data set's folder."""

from __future__ import annotations

import zipfile

from fairquant.data.download import fetch
from fairquant.roles import Source


def test_an_archive_that_would_leave_the_folder_is_refused(tmp_path):
    (tmp_path / "m").mkdir()
    with zipfile.ZipFile(tmp_path / "m" / "evil.zip", "w") as bundle:
        bundle.writestr("../outside.txt", "x")
    got = fetch([Source("", "evil.zip", unpack=True)], tmp_path / "root", str(tmp_path / "m"))
    assert "would leave the folder" in got.failed["evil.zip"]
    assert not (tmp_path / "outside.txt").exists()
    assert not (tmp_path / "root" / "outside.txt").exists()


def test_files_that_are_there_are_kept_and_each_failure_is_reported(tmp_path):
    mirror, root = tmp_path / "mirror", tmp_path / "root"
    for folder in (mirror, root):
        folder.mkdir()
    (mirror / "a.csv").write_text("new")
    (root / "b.csv").write_text("own")
    (mirror / "b.csv").write_text("theirs")
    (mirror / "c.png").write_bytes(b"<html>gone</html>")
    done = []
    sources = [Source("", name) for name in ("a.csv", "b.csv", "c.png", "d.csv")]
    fetched = fetch(sources, root, str(mirror), done.append)
    assert (fetched.new, fetched.present, sorted(fetched.failed)) == (1, 1, ["c.png", "d.csv"])
    assert (root / "b.csv").read_text() == "own"
    assert not (root / "c.png").exists()
    assert done == [1, 1, 1]


def test_an_archive_is_unpacked_beside_itself_and_not_fetched_again(tmp_path):
    mirror, root = tmp_path / "mirror", tmp_path / "root"
    mirror.mkdir()
    with zipfile.ZipFile(mirror / "images.zip", "w") as bundle:
        bundle.writestr("images/1.txt", "one")
    source = Source("", "images.zip", unpack=True)
    assert fetch([source], root, str(mirror)).new == 1
    assert (root / "images" / "1.txt").read_text() == "one"
    assert sorted(file.name for file in root.iterdir()) == ["images"]
    assert fetch([source], root, str(mirror)).present == 1
