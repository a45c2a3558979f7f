"""What a notebook shows of steps, of a step, and of lists of runs."""

import re

import pytest

from pipedeco import component, get_run, pipeline, runs


@component
def tags(n):
    return ["<b>"] * n


@component(allow_failure=True)
def fails(made):
    raise LookupError("no <such> thing")


@pipeline
def page(n):
    fails(tags(n))
    return "done"


def cells(html):
    return re.findall(r"<t[dh](?: [^>]*)?>(.*?)</t[dh]>", html)


def test_steps_are_a_table(mode):
    page(1)
    found = cells(get_run().steps._repr_html_())
    assert found[:4] == ["step", "state", "time", "result"]
    assert found[4:6] == ["tags", "completed"]
    assert found[7] == "[&#x27;&lt;b&gt;&#x27;]"
    assert found[8:10] == ["fails", "failed"]
    assert "LookupError: no &lt;such&gt; thing" in found[11]


def test_a_step_is_a_table_of_what_is_known(mode):
    page(1)
    found = cells(get_run().steps["fails"]._repr_html_())
    known = dict(zip(found[::2], found[1::2], strict=True))
    assert known["step"] == "fails"
    assert known["state"] == "failed"
    assert known["needs"] == "tags"
    assert "LookupError" in known["result"]


@pytest.mark.parametrize("mode", ["debug"], indirect=True)
def test_a_list_of_runs_is_a_list_and_a_table(mode):
    for n in (1, 2):
        page(n)
    found = runs()
    assert isinstance(found, list)
    assert [run.number for run in found] == [2, 1]
    shown = cells(found._repr_html_())
    assert shown[:5] == ["run", "id", "status", "time", "result"]
    assert shown[5:8] == ["page#2", found[0].id, "completed"]
    assert shown[9] == "&#x27;done&#x27;"
    assert "<th" in runs("nothing")._repr_html_()
