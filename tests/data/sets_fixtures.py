"""Fixtures: the training sets in miniature on a local server, and an empty folder for downloads."""

import pytest
from tests.data.miniature_sets import miniature_table, serve_sets

from lhrs.data import training_sets


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("pooch")
    hub = serve_sets(tmp_path_factory.mktemp("served"))
    yield hub
    hub.server.shutdown()


@pytest.fixture
def hub(served, tmp_path, monkeypatch):
    """The server in place of hub, Zenodo and COCO."""
    import pooch
    from huggingface_hub import constants

    table = miniature_table(served)
    monkeypatch.setattr(training_sets, "list_sets", lambda: table)
    monkeypatch.setenv("LHRS_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    record = "https://zenodo.org/records/"
    monkeypatch.setattr(pooch.downloaders, "doi_to_url", lambda doi, **words: record + doi.rpartition(".")[2])
    monkeypatch.setattr(pooch.downloaders.ZenodoRepository, "base_api_url", f"{served.url}/api/records")
    served.asked.clear()
    for fault in (served.breaks, served.versions, served.status):
        fault.clear()
    return served
