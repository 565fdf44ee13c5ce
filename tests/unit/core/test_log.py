import logging

import pytest

from hpcsurrogate.core.log import ROOT, get_logger, setup_logging


@pytest.fixture(autouse=True)
def restore_logging():
    logger = logging.getLogger(ROOT)
    before = (logger.handlers, logger.propagate, logger.level)
    yield
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])


def lines(capsys, rank, size, verbose=False):
    setup_logging(rank, size, verbose)
    log = get_logger("train")
    log.debug("detail")
    log.info("step %d", 3)
    log.warning("odd")
    return capsys.readouterr().err.splitlines()


def test_a_process_alone_speaks_without_rank(capsys):
    assert lines(capsys, 0, 1) == ["train: step 3", "train: warning: odd"]


def test_verbose_adds_details(capsys):
    assert lines(capsys, 0, 1, verbose=True)[0] == "train: detail"


def test_other_ranks_only_warn_and_name_themselves(capsys):
    assert lines(capsys, 0, 2) == ["[rank 0] train: step 3", "[rank 0] train: warning: odd"]
    assert lines(capsys, 1, 2) == ["[rank 1] train: warning: odd"]


def test_a_module_speaks_for_its_room():
    assert get_logger("hpcsurrogate.evaluate.stage") is get_logger("evaluate")


def test_setting_up_twice_does_not_double_the_lines(capsys):
    setup_logging()
    assert len(lines(capsys, 0, 1)) == 2
