"""Pictures of patients are on the page only while someone wants them there."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fairquant.report.pictures import WIDTH, hide_images, show_images

PAGE = "<td><!--image 2-->two</td><td><!--image 0-->zero</td><p>&lt;img&gt; stays</p>"


def pictures(page):
    found = re.findall(r'<!--image (\d+)--><img alt="" src="data:image/jpeg;base64,([^"]+)">', page)
    return {int(row): Image.open(io.BytesIO(base64.b64decode(data))) for row, data in found}


@pytest.fixture
def page():
    Path("report.html").write_text(PAGE)
    return Path("report.html")


def test_each_listed_image_has_its_own_picture_and_hiding_takes_all_off(page):
    images = [torch.full((3, 20, 30), 80 * row, dtype=torch.uint8) for row in range(3)]
    assert show_images(page, images) == 2
    shown = pictures(page.read_text())
    assert {row: int(np.asarray(picture).mean().round(-1)) for row, picture in shown.items()} == {2: 160, 0: 0}
    assert shown[2].size == (30, 20)
    once = page.read_text()
    assert show_images(page, images) == 2  # again: in place of the first, not beside them
    assert page.read_text() == once
    hide_images(page)
    assert page.read_text() == PAGE


def test_pictures_are_small_and_numbers_are_stretched(page):
    wide = torch.linspace(-1.5, 2.0, 400).repeat(3, 300, 1)
    show_images(page, [wide] * 3)
    picture = pictures(page.read_text())[0]
    assert max(picture.size) == WIDTH
    pixels = np.asarray(picture)
    assert pixels.min() < 10
    assert pixels.max() > 245


def test_a_run_shows_images_only_where_it_is_asked_to(operated, quickstart_runs):
    """Both runs list newly misclassified images."""
    asked, plain = ((folder / "report.html").read_text() for folder in (operated, quickstart_runs[0]))
    assert "<img" not in plain
    places = len(re.findall(r"<!--image \d+-->", asked))
    assert len(pictures(asked)) == places == asked.count("<img")
