from pathlib import Path

from hpcsurrogate.core.paths import RunPaths


def test_every_path_lies_in_the_run_directory_and_no_two_are_the_same():
    paths = RunPaths("some run")
    names = [name for name, member in vars(RunPaths).items() if isinstance(member, property)]
    found = [getattr(paths, name) for name in names]
    assert all(Path("some run") in path.parents for path in found)
    assert len(set(found)) == len(found) >= 15
