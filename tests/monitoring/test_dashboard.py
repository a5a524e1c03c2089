# SPDX-License-Identifier: GPL-3.0-or-later
"""The dashboard as a file: what Grafana needs to show it."""

from __future__ import annotations

import itertools
import json
from typing import Any

from harness.monitored import DASHBOARD

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def test_it_asks_for_its_data_source_and_offers_sources_and_workers() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert {"source", "instance"} <= variables.keys()
    assert all(
        variable["multi"] and variable["includeAll"]
        for name, variable in variables.items()
        if name != "datasource"
    )


def test_each_panel_has_a_place_of_its_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, another in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        apart = one["x"] + one["w"] <= another["x"] or another["x"] + another["w"] <= one["x"]
        above = one["y"] + one["h"] <= another["y"] or another["y"] + another["h"] <= one["y"]
        assert apart or above, (one, another)
    assert all(place["x"] + place["w"] <= 24 for place in (panel["gridPos"] for panel in panels))


def test_each_panel_asks_the_chosen_data_source() -> None:
    for panel in dashboard()["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == SOURCE, panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all(target["datasource"] == SOURCE and target["expr"] for target in panel["targets"]), panel[
            "title"
        ]
