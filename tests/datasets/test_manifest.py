"""manifest.json: absent, sound, or refused."""

import pytest

from custom_modules.datasets.manifest import read_manifest_digest
from custom_modules.datasets.splitting import split_dataset
from custom_modules.errors import InputError


def test_a_manifest_is_absent_sound_or_refused(raw, tmp_path):
    out = tmp_path / 'out'
    assert read_manifest_digest(out) is None
    split_dataset(raw, out)
    manifest = out / 'manifest.json'
    text = manifest.read_text()
    for broken in (text.replace('"seed": 0', '"seed": 1'), text[:-5], '[]', '{}', '\udce9'):
        manifest.write_bytes(broken.encode('utf-8', 'surrogateescape'))
        with pytest.raises(InputError, match=r'manifest\.json: .*tools/split_dataset\.py'):
            read_manifest_digest(out)
