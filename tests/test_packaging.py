"""The package's metadata: the extras of pyproject.toml are what requirements-dev.txt installs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def listed(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding='utf-8').splitlines()
    return {line.partition('#')[0].strip() for line in lines} - {'', '-r requirements.txt'}


def test_extras_and_requirements_are_the_same():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    extras = project['optional-dependencies']
    named = {line for lines in extras.values() for line in lines if not line.startswith(project['name'])}
    assert named <= listed('requirements-dev.txt') | listed('requirements.txt')
    assert listed('requirements-dev.txt') <= named
    (whole,) = (line for line in extras['dev'] if line.startswith(project['name']))
    assert set(re.findall(r'\w+', whole.partition('[')[2])) == extras.keys() - {'dev'}


def test_templates_are_in_the_package():
    settings = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['tool']['setuptools']
    kinds = {path.suffix for path in (ROOT / 'custom_modules').rglob('*.*') if '__pycache__' not in path.parts}
    assert {f'*{kind}' for kind in kinds - {'.py'}} == set(settings['package-data']['*'])
