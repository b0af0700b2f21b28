"""The API's own pages work without the internet."""

import re

import pytest

from tests.service.plane import Plane


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_pages_of_the_api_load_nothing_from_elsewhere(idle_plane: Plane, page: str) -> None:
    html = idle_plane.client.get(page).text
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert sources
    for source in sources:
        assert source.startswith("/"), source
        assert idle_plane.client.get(source).status_code == 200
