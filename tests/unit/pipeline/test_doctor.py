import sys

import pytest

from hpcsurrogate.pipeline import doctor


def test_every_part_is_looked_at_and_says_something():
    findings = list(doctor.diagnose())
    assert [finding.part for finding in findings][:4] == ["Python", "MPI", "mpi4py", "Horovod"]
    assert {"torch", "GPU", "HDF5", "compiler", "SLURM"} <= {finding.part for finding in findings}
    # The set-up that runs these tests installs all that is needed.
    assert [finding for finding in findings if finding.status == "error"] == []
    assert all(finding.message and "\n" not in finding.message for finding in findings)


def test_mpirun_of_another_mpi_is_an_error():
    finding = doctor._mpi4py("4.1", "mpirun (Open MPI) 5.0.1", {"library": "MPICH Version: 4.2", "size": 1}, "")
    assert finding.status == "error" and "2 ranks see 1" in finding.message and "--no-binary" in finding.message


def test_mpirun_of_another_version_is_a_warning():
    finding = doctor._mpi4py("4.1", "mpirun (Open MPI) 5.0.1", {"library": "Open MPI v4.1.4, package", "size": 2}, "")
    assert finding.status == "warning"
    finding = doctor._mpi4py("4.1", "mpirun (Open MPI) 5.0.1", {"library": "Open MPI v5.0.11, package", "size": 2}, "")
    assert finding.status == "ok"


def test_absent_horovod_is_a_warning_with_the_way_out(monkeypatch):
    monkeypatch.setattr(doctor, "library_version", lambda name: None)
    finding = doctor._horovod()
    assert finding.status == "warning" and "train.engine: none" in finding.message


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((None, "undefined symbol: torch"), "cannot be loaded (undefined symbol: torch)"),
        (({"mpi_built": False, "nccl_built": False, "torch": "2"}, ""), "has no MPI"),
    ],
)
def test_broken_horovod_is_an_error(monkeypatch, answer, expected):
    monkeypatch.setattr(doctor, "library_version", lambda name: "0.28.1")
    monkeypatch.setattr(doctor, "_probe", lambda *_: answer)
    finding = doctor._horovod()
    assert finding.status == "error" and expected in finding.message


def test_probe_gives_the_answer_or_the_last_complaint(monkeypatch):
    assert doctor._probe([sys.executable, "-c", "print('noise'); print('{\"a\": 1}')"]) == ({"a": 1}, "")
    answer, problem = doctor._probe([sys.executable, "-c", "import sys; sys.exit('it broke')"])
    assert answer is None and problem == "it broke"
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.2)
    answer, problem = doctor._probe([sys.executable, "-c", "import time; time.sleep(60)"])
    assert answer is None and "no answer" in problem
