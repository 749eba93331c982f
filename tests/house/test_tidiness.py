"""What a folder says of itself, and how much there is in it.

Rules as in `test_architecture.py`: each is tried on the repository, and on a house that breaks it.
"""

from __future__ import annotations

import re
import statistics

import pytest

from lingvo_lite.tools import house

MOST_FILES = 15  # in a folder
MOST_LINES = 400  # in a file
MEDIAN_LINES = 130  # half of the files are no longer
# Files that may be longer, each with the reason.
LONG = {}
# Their packages say what an installation is, not what a room holds.
OUTSIDE = ('lingvo_lite.tasks', 'lingvo_lite.tools')


def _Lines(source):
    return source.count('\n')


def UndescribedPackages(sources):
    """Packages of lingvo_lite/ without two lines: what lives there, and what does not."""
    broken = []
    for module, source in sources.items():
        if module.endswith('.__init__') and not module.startswith(OUTSIDE):
            lines = house.Docstring(source).split('\n')
            if [bool(line) for line in lines] != [True, False, True]:
                broken.append(module)
    return broken


def LostPlaces(sources):
    """Files and folders that the docstring of a package names, and that are not there.

    A path begins in the package or in one above it.
    """
    known = {house.Module(module) for module in sources}
    broken = []
    for module, source in sources.items():
        if not module.endswith('.__init__'):
            continue
        parts = module.split('.')[:-1]
        above = ['.'.join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        for path in re.findall(r'(?:\w+/)*\w+\.py\b|(?:\w+/)+', house.Docstring(source)):
            place = path.replace('.py', '').strip('/').replace('/', '.')
            if not known & {f'{package}.{place}' for package in above}:
                broken.append(f'{module} names {path}')
    return broken


def CrowdedFolders(sources):
    """Folders with too many Python files, those of sub-folders not counted."""
    folders = [module.rpartition('.')[0] for module in sources]
    return [
        f'{folder}: {folders.count(folder)} files'
        for folder in sorted(set(folders))
        if folders.count(folder) > MOST_FILES
    ]


def LongFiles(sources):
    """Files that are too long to be read in one sitting."""
    return [
        f'{module}: {_Lines(source)} lines'
        for module, source in sources.items()
        if _Lines(source) > MOST_LINES and module not in LONG
    ]


def LongMedian(sources):
    """The length of the median file, if it is too long."""
    median = statistics.median(_Lines(source) for source in sources.values())
    return [f'{median:g} lines'] if median > MEDIAN_LINES else []


RULES = {
    UndescribedPackages: {'lingvo_lite.jobs.attic.__init__': '"""What is old."""'},
    LostPlaces: {'lingvo_lite.jobs.new.__init__': '"""What is new.\n\nThe old is attic/."""'},
    CrowdedFolders: {f'lingvo_lite.jobs.file_{n}': '' for n in range(MOST_FILES)},
    LongFiles: {'lingvo_lite.jobs.a': '\n' * (MOST_LINES + 1)},
    LongMedian: {f'lingvo_lite.jobs.a{n}': '\n' * (MEDIAN_LINES + 1) for n in range(40)},
}
TIDY = {'lingvo_lite.jobs.__init__': '"""What lives here.\n\nWhat does not is jobs/."""\n'}


@pytest.fixture(scope='module')
def sources():
    return house.Sources()


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule, sources):
    assert rule(sources) == []


@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.__name__)
def test_the_rule_sees_what_breaks_it(rule):
    assert rule(TIDY) == []
    assert len(rule({**TIDY, **RULES[rule]})) == 1


def test_the_list_of_long_files_is_true(sources):
    assert [m for m in LONG if _Lines(sources.get(m, '')) <= MOST_LINES] == []


def test_folders_of_tests_are_not_crowded():
    assert CrowdedFolders(house.Tests()) == []
