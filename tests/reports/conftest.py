import drawn_report
import pytest

from paperzoo.reports import figures


@pytest.fixture(scope="session")
def drawings():
    """The figures of a usual report with three seeds; drawing takes a second."""
    return figures.draw(drawn_report.report(seeds=3))
