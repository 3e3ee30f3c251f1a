"""A report in W&B's blocks, and one clear line where it cannot be published."""

import sys

import pytest
from synthetic import record, records, sweep
from wandb_server import Server

from paperzoo.errors import UserError
from paperzoo.reports import markdown, wandb_report
from paperzoo.reports.analysis import analyse


def test_without_the_package_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(UserError, match=r"wandb-workspaces is not installed; pip install 'paperzoo\[publish\]'"):
        wandb_report.check("someone/p")


def test_where_nobody_is_logged_in_it_is_one_line(monkeypatch):
    def save(_):
        raise Exception("not logged in to W&B\nat all")  # as wandb-workspaces does

    monkeypatch.setattr(wandb_report, "build", lambda *_: type("Made", (), {"save": save})())
    with pytest.raises(
        UserError, match=r"^publish=wandb: W&B does not take the report \(not logged in to W&B\); `wandb"
    ):
        wandb_report.publish(None, "someone/paperzoo")


@pytest.mark.parametrize("project", [None, "", "p", "a/b/c"])
def test_it_needs_a_project(project):
    with pytest.raises(UserError, match=r"publish=wandb needs project=<entity>/<project>"):
        wandb_report.check(project)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_the_blocks(method, monkeypatch):
    from wandb_workspaces.reports.v2 import interface

    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(interface, "execute_graphql", lambda *_: {"project": {"id": "p", "internalId": "p"}})
    given = records() if method == "grid" else [record(lr=0.01 * 2**i, minute=i) for i in range(6)]
    report = analyse(given, sweep(method))
    saved = wandb_report.build(report, "someone/p")._to_model()
    assert saved.display_name == "x"
    text = saved.spec.model_dump_json(by_alias=True, exclude_none=True)
    blocks = [block.type for block in saved.spec.blocks]
    assert blocks == ["paragraph", "markdown-block", "panel-grid", "paragraph"]
    assert saved.spec.blocks[1].content == markdown.text(report)
    for variant in report.variants:
        assert all(run.id in text for run in variant.runs)
    assert ("Parameter Importance" in text) == (method == "random")


def test_it_is_saved_on_the_server(monkeypatch):
    import wandb

    server = Server()
    for name, value in {"BASE_URL": server.url, "API_KEY": "0" * 40, "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()
    report = analyse(records(), sweep())
    address = wandb_report.publish(report, "someone/paperzoo")
    wandb.teardown()
    server.stop()
    assert address.startswith(server.url)
    assert not server.unknown
    (view,) = server.views
    assert (view["displayName"], view["entityName"], view["projectName"]) == ("x", "someone", "paperzoo")
    assert "scnet is better than resnet" in view["spec"]
