from dataclasses import replace

import drawn_report
import pytest
from browser import Browser

from paperzoo.reports import page

LONG = tuple(f"model=scnet_variant_{width}, norm=switchable, optimizer.lr=0.0{width}" for width in range(12))


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all."""
    window = Browser()
    yield window
    window.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """A folder of reports as a user has it: a usual one, one of long names, a hostile one, an empty one, the index."""
    root = tmp_path_factory.mktemp("reports")
    hostile = drawn_report.report((drawn_report.HOSTILE, '"><img src=x onerror=alert(1)>'), 3)
    texts = dict.fromkeys(("name", "title", "question", "answer"), drawn_report.HOSTILE)
    hostile = replace(hostile, **texts, problems=(drawn_report.HOSTILE,), facts={drawn_report.HOSTILE: "javascript:"})
    reports = {
        "usual": drawn_report.report(),
        "long": drawn_report.report(LONG, 3),
        "search": drawn_report.search(8),
        "hostile": hostile,
        "empty": drawn_report.empty(),
    }
    for name, report in reports.items():
        page.write_page(report, root / name)
    page.write_index(root)
    return {name: root / name / "index.html" for name in reports} | {"index": root / "index.html"}
