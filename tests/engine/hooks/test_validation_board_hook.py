"""TensorBoard of a run: images, precision-recall curves, layout, hyperparameters and projector."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture(scope='module')
def tags(trained):
    folder = min(trained.work_dir.glob('*/vis_data'))  # the training's; tests of it add theirs
    board = EventAccumulator(str(folder), size_guidance={'tensors': 0, 'images': 0})
    board.Reload()
    return board


def test_pictures_curves_layout_and_hyperparameters(tags):
    found = tags.Tags()
    assert {'validation/confusion matrix', 'validation/misclassified photos'} <= set(found['images'])
    assert [image.step for image in tags.Images('validation/confusion matrix')] == [1, 2]
    assert {f'precision-recall/{name}' for name in ('daisy', 'dandelion', 'rose', 'sunflower', 'tulip')} <= set(
        found['tensors']
    )
    assert {'custom_scalars__config__', '_hparams_/experiment', '_hparams_/session_start_info'} <= set(
        tags.summary_metadata
    )
    assert {'hparam/best_top1', 'hparam/last_top1'} <= set(found['scalars'])
    (last,) = tags.Scalars('hparam/last_top1')
    assert last.value == tags.Scalars('epoch/accuracy_val')[-1].value


def test_the_projector_has_each_validation_photo(call, drawing_config, tmp_path):
    options = ['train_cfg.max_epochs=1', 'default_hooks.validation_board.projector=True']
    assert call('train', drawing_config, '--work-dir', tmp_path / 'run', '--cfg-options', *options).code == 0
    (features,) = (tmp_path / 'run').glob('*/vis_data/*/validation photos/tensors.tsv')
    assert len(features.read_text().splitlines()) == 15
    assert len(features.with_name('metadata.tsv').read_text().splitlines()) == 15
    assert features.with_name('sprite.png').is_file()
