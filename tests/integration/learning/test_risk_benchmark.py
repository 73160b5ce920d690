"""How hack/bench judges the risk of commits, and that it asks what the product calls."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import commits, risk
from benchmarks.commits import Project, generated, read
from dawg_orchestrator.learning.commitfeatures import Features
from dawg_orchestrator.learning.commitrisk import probability
from dawg_orchestrator.learning.fitting import judge, train
from dawg_orchestrator.learning.risksamples import Sample

HEADINGS = ",_id,date,bug,__,ns,nd,nf,entrophy,la,ld,lt,fix,ndev,age,nuc,exp,rexp,sexp\n"


def written(folder: Path, *dates: int) -> Path:
    rows = [
        f"{number},c{number},{date},{number},x,1,2,3,0.5,4,5,6,1,7,8.5,9,10,11.5,12\n"
        for number, date in enumerate(dates)
    ]
    folder.mkdir()
    (folder / "shop.csv.gz").write_bytes(gzip.compress((HEADINGS + "".join(rows)).encode()))
    return folder


def test_projects_are_read_from_a_folder_or_from_the_one_above(tmp_path: Path):
    folder = written(tmp_path / commits.FOLDER, 10, 20)

    features = Features(1, 2, 3, 0.5, 4, 5, 6, 1, 7, 8.5, 9, 10, 11.5, 12)
    assert read(folder) == read(tmp_path) == [Project("shop", [Sample(features, False), Sample(features, True)])]


def test_commits_out_of_order_or_without_a_column_are_refused(tmp_path: Path):
    with pytest.raises(RuntimeError, match="not in the order of time"):
        read(written(tmp_path / "late", 20, 10))
    (tmp_path / "late" / "shop.csv.gz").write_bytes(gzip.compress(b"date,bug\n1,0\n"))
    with pytest.raises(RuntimeError, match=r"has no column age, entrophy, exp"):
        read(tmp_path / "late")
    with pytest.raises(RuntimeError, match="has a file"):
        read(tmp_path / "elsewhere")


def test_generated_commits_are_the_same_every_time():
    assert generated() == generated()


def test_a_part_learns_the_oldest_and_judges_the_newest_and_says_the_same_again():
    project = Project("one", generated()[0].samples[:700])
    earlier, later = project.samples[:560], project.samples[560:]
    failed = [sample.failed for sample in later]
    model = train(earlier)
    expected = judge([probability(model, sample.features) for sample in later], failed)

    first, again = (risk.measure([project], "risk.generated", lambda _: None) for _ in range(2))

    values = {figure.key: figure.value for figure in first.figures}
    assert values["risk.generated.auc"] == pytest.approx(expected.auc)
    assert values["risk.generated.calibration_error"] == pytest.approx(expected.calibration_error)
    assert [f for f in first.figures if "prediction" not in f.key] == [
        f for f in again.figures if "prediction" not in f.key
    ]
    assert json.loads(json.dumps(first.wire()))["details"]["projects"]["one"]["judged"] == 140


def test_lines_added_alone_are_judged_on_the_same_commits():
    project = Project("one", generated()[0].samples[:700])
    later = project.samples[560:]

    part = risk.measure([project], "risk", lambda _: None)

    lines = judge([sample.features.la for sample in later], [sample.failed for sample in later]).auc
    assert part.details["projects"]["one"]["auc"]["lines added"] == pytest.approx(lines)


def test_commits_that_are_drawn_several_times_count_as_often():
    scores, failed = np.array([0.1, 0.4, 0.4, 0.8, 0.3]), np.array([False, True, False, True, True])
    times = np.array([2, 1, 3, 0, 2])
    places = np.unique(scores, return_inverse=True)[1]

    found = risk._auc(places, times * failed, times * ~failed)

    assert found == pytest.approx(roc_auc_score(np.repeat(failed, times), np.repeat(scores, times)))
