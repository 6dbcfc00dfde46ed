"""OOD images: the figures against other computations, and the folders that are accepted."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_modules.errors import InputError
from custom_modules.evaluation.out_of_distribution import format_ood, list_others, ood_figures
from custom_modules.metrics.calibration import tempered
from custom_modules.metrics.predictions import Prediction


def scored(highest, truth=None, label=0):
    """A prediction of three classes with this highest score."""
    scores = [(1 - highest) / 2] * 3
    scores[label] = highest
    return Prediction('a.jpg', scores, truth)


def scaling(after):
    return {'temperature': 0.5, 'before': {'nll': 0.3}, 'after': {'nll': after}}


TESTED = [scored(0.99, 0)] * 12 + [scored(0.8, 1)] * 4 + [scored(0.65, 0)] * 3 + [scored(0.4, 0)]
OTHERS = [scored(0.95), scored(0.9), scored(0.72, label=2), scored(0.6), scored(0.4)]


FEW = st.lists(st.integers(0, 9).map(lambda tenths: tenths / 10), min_size=1, max_size=30)  # equals are likely


@given(FEW, FEW)
def test_the_threshold_is_the_highest_that_keeps_95_percent(inside, outside):
    found = ood_figures([scored(s, 0) for s in inside], [scored(s) for s in outside], None)
    tested = np.array([max(scored(s).scores) for s in inside])
    kept = [score for score in tested if np.mean(tested >= score) >= 0.95]
    assert found['score_at_95_tpr'] == max(kept)
    assert found['fpr_at_95_tpr']['k'] == sum(max(scored(s).scores) >= max(kept) for s in outside)


def test_figures():
    found = json.loads(json.dumps(ood_figures(TESTED, OTHERS, None, 'others', 2), allow_nan=False))
    assert (found['folder'], found['photos'], found['unreadable']) == ('others', 5, 2)
    higher = [(max(a.scores) > max(b.scores)) + (a.scores == b.scores) / 2 for a in TESTED for b in OTHERS]
    assert found['auroc'] == pytest.approx(np.mean(higher))
    assert found['score_at_95_tpr'] == 0.65  # what 19 of 20 reach
    assert (found['fpr_at_95_tpr']['k'], found['called_at_0.9']['k']) == (3, 2)
    threshold = found['threshold']
    assert (threshold['min_score'], threshold['calibrated']) == (0.9, False)
    assert [threshold[key]['k'] for key in ('kept', 'right', 'called')] == [12, 12, 2]
    assert [threshold[key]['n'] for key in ('kept', 'right', 'called')] == [20, 12, 5]
    lines = format_ood(found).splitlines()
    assert lines[0] == '5 OOD images in others'
    assert [re.split(r' {2,}', line.strip())[0] for line in lines[2:]] == [
        'predicted with score >= 0.6500 (95 % TPR)',
        'predicted with score >= 0.9',
        'test images kept by that threshold',
        'correct among those',
    ]
    assert '40.00 % (2/5, ' in lines[3]


def test_scores_are_scaled_where_that_lowers_the_nll():
    plain = ood_figures(TESTED, OTHERS, None)
    assert ood_figures(TESTED, OTHERS, scaling(after=0.3)) == plain
    found = ood_figures(TESTED, OTHERS, scaling(after=0.2))
    assert 'predicted with scaled score >= 0.9 ' in format_ood(found)
    threshold = found.pop('threshold')
    expected = sum(tempered([other.scores], 0.5).max() >= 0.9 for other in OTHERS)
    assert threshold['called']['k'] == expected == 3
    assert (threshold['calibrated'], threshold['kept']['k'], threshold['right']['k']) == (True, 16, 12)
    plain.pop('threshold')
    assert found == plain


def test_unusable_folders_are_refused(data, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'a.jpg').write_text('no picture')
    for folder, said in {
        tmp_path / 'gone': 'gone: no such folder',
        tmp_path / 'empty': 'empty: no photos',
        tmp_path / 'broken': 'broken: none of its 1 images can be read',
        data / 'val': 'whose images are in distribution',
        data.parent: 'whose images are in distribution',
    }.items():
        with pytest.raises(InputError, match=f'.*{said}.*$'):
            list_others(str(folder), data)
