"""fairquant data prepare: from a server into the official layout, resumed, with what fails named."""

from __future__ import annotations

import functools
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fairquant_datasets.fitzpatrick17k import Fitzpatrick17k
from fairquant_datasets.isic2019 import Isic2019
from helpers.data_sets import fitzpatrick, isic, own
from typer.testing import CliRunner

from fairquant.cli import app
from fairquant.errors import UserError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("isic201", "no dataset is called 'isic201'. Did you mean 'isic2019'?"),
        ("synthetic-lesions", "dataset 'synthetic-lesions' has nothing to fetch"),
    ],
)
def test_a_data_set_that_cannot_be_fetched_is_refused(name, message):
    result = CliRunner().invoke(app, ["data", "prepare", name])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


def test_isic_comes_from_a_server_into_its_layout(tmp_path, server):
    folder, url = server
    root = isic(tmp_path / "made", count=20)
    for name in ("ISIC_2019_Training_GroundTruth.csv", "ISIC_2019_Training_Metadata.csv"):
        (root / name).rename(folder / name)
    with zipfile.ZipFile(folder / "ISIC_2019_Training_Input.zip", "w") as bundle:
        for file in (root / "ISIC_2019_Training_Input").iterdir():
            bundle.write(file, f"ISIC_2019_Training_Input/{file.name}")
    result = CliRunner().invoke(app, ["data", "prepare", "isic2019", "--root", "isic", "--from", url])
    assert result.exit_code == 0, result.output
    assert "3 file(s) fetched, 0 present before, 0 failed" in result.output
    assert Isic2019(root="isic").check() == []
    again = CliRunner().invoke(app, ["data", "prepare", "isic2019", "--root", "isic", "--from", url])
    assert "0 file(s) fetched, 3 present before" in again.output


def test_fitzpatrick_resumes_and_names_what_is_gone(tmp_path, server):
    folder, url = server
    root = fitzpatrick(tmp_path / "made", count=30)
    text = (root / "fitzpatrick17k.csv").read_text().splitlines()
    rows = [text[0], *(line if "Wrongly" in line else f"{line}http://gone.invalid/x.jpg" for line in text[1:])]
    (folder / "fitzpatrick17k.csv").write_text("\n".join(rows))
    (folder / "images").mkdir()
    for file in (root / "images").iterdir():
        (folder / "images" / file.name).write_bytes(file.read_bytes())
    broken = sorted((folder / "images").iterdir())[0]
    broken.write_bytes(b"<html>gone</html>")
    result = CliRunner().invoke(app, ["data", "prepare", "fitzpatrick17k", "--root", "f", "--from", url])
    assert isinstance(result.exception, UserError)
    assert "26 file(s) fetched" in result.output  # the table and 25 images: one is broken, one row lost its url
    assert "4 failed" in result.output
    assert broken.name in str(result.exception)
    assert Fitzpatrick17k(root="f").check() == []


def test_without_a_network_it_says_what_to_do(tmp_path):
    result = CliRunner().invoke(app, ["data", "prepare", "isic2019", "--root", "x", "--from", "http://127.0.0.1:9"])
    assert isinstance(result.exception, UserError)
    assert "name their folder with --from FOLDER" in str(result.exception)


def test_check_shows_what_came_in_and_writes_a_page(tmp_path):
    file = own(tmp_path / "d")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"dataset: {{name: image-table, table: {file}, image: file, label: diagnosis, attributes: [sex]}}\n"
        "model: {name: resnet10t, image_size: 16}\n"
    )
    result = CliRunner().invoke(app, ["data", "check", str(recipe), "--html", str(tmp_path / "c.html")])
    assert result.exit_code == 0, result.output
    for text in ("rows of the table               60", "rows with an unknown attribute  20", "images used                     40",
                 "ill   10  10   20", "attribute 'sex': read as unknown: 'unknown' (20)"):  # fmt: skip
        assert text in result.output
    page = (tmp_path / "c.html").read_text()
    assert "<td>rows with an unknown attribute</td><td>20</td>" in page
    assert "Drawn here" in page
    wrong = CliRunner().invoke(app, ["data", "check", str(recipe), "dataset.attributes=[sexes]"])
    assert "no column 'sexes'. Did you mean 'sex'?" in str(wrong.exception)
    assert "no column 'sexes'" in str(
        CliRunner().invoke(app, ["validate", str(recipe), "dataset.attributes=[sexes]"]).exception
    )
