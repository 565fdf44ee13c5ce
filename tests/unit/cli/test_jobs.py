"""The commands around whole experiments: what they hand to the rooms, and what they refuse."""

import sys

import pytest

from hpcsurrogate.cli import main as cli


@pytest.fixture
def calls(monkeypatch):
    """Arguments with which the functions of the rooms were called; `say` is left out."""
    import hpcsurrogate.pipeline.status
    import hpcsurrogate.pipeline.submit
    import hpcsurrogate.study.scaling
    import hpcsurrogate.study.tune

    seen = []
    for module, name in (
        (hpcsurrogate.pipeline.submit, "submit_experiment"),
        (hpcsurrogate.pipeline.status, "run_status"),
        (hpcsurrogate.study.tune, "tune_experiment"),
        (hpcsurrogate.study.scaling, "measure_scaling"),
    ):
        monkeypatch.setattr(module, name, lambda *arguments, say, name=name: seen.append((name, *arguments)))
    return seen


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
        sys.exit(0)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["submit", "a.yaml", "--dry-run"], ("submit_experiment", "a.yaml", (), True)),
        (["submit", "a.yaml", "seed=1"], ("submit_experiment", "a.yaml", ("seed=1",), False)),
        (["status", "runs/a"], ("run_status", "runs/a")),
        (["tune", "a.yaml"], ("tune_experiment", "a.yaml", (), None)),
        (["tune", "a.yaml", "seed=1", "--trials", "7"], ("tune_experiment", "a.yaml", ("seed=1",), 7)),
        (["scaling", "a.yaml"], ("measure_scaling", "a.yaml", (), (1, 2, 4), 30)),
        (["scaling", "a.yaml", "--ranks", "1, 3", "--steps", "5"], ("measure_scaling", "a.yaml", (), (1, 3), 5)),
    ],
)
def test_the_room_gets_what_was_typed(capsys, calls, arguments, expected):
    assert call(capsys, *arguments) == (0, "")
    assert calls == [expected]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["scaling", "a.yaml", "--ranks", "1,two"], "'1,two' are no numbers of ranks such as 1,2,4"),
        (["scaling", "a.yaml", "--ranks", "0,1"], "'0,1' are no numbers of ranks"),
        (["scaling", "a.yaml", "--steps", "0"], "--steps"),
        (["tune", "a.yaml", "--trials", "0"], "--trials"),
        (["status"], "Missing argument 'FILE|DIR'"),
    ],
)
def test_mistakes_are_one_line(capsys, calls, arguments, expected):
    code, stderr = call(capsys, *arguments)
    assert code == 2 and expected in stderr and stderr.count("\n") == 1
    assert calls == []
