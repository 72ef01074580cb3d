"""The runner itself: silence, crashes and short plans are failures."""

import importlib.util
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location(
        "runner", os.path.join(ROOT, "scripts", "test.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("status, output, line", [
    (0, "1..2\nok 1 - a\nok 2 - b\n", "2 passed, 0 failed"),
    (1, "1..2\nok 1 - a\nnot ok 2 - b\n", "1 passed, 1 failed"),
    (0, "1..2\nok 1 - a\nnot ok 2 # SKIP b\n", "1 passed, 0 failed, 1 skipped"),
    (0, "1..1\nok 1 - a\n# ok - group\n1..1\nok 1 - b\n", "2 passed, 0 failed"),
    (0, "", "0 passed, 1 failed"),
    (0, "all is well\n", "0 passed, 1 failed"),
    (-11, "1..3\nok 1 - a\n", "1 passed, 1 failed"),
    (0, "1..3\nok 1 - a\n", "1 passed, 1 failed"),
    (99, "1..1\nok 1 - a\n==1==ERROR: LeakSanitizer\n", "1 passed, 1 failed"),
    (None, "1..2\nok 1 - a\n", "1 passed, 1 failed"),
    (77, "", "0 passed, 0 failed, 1 skipped"),
    (0, "Ran 3 tests in 0.1s\n\nOK\n", "3 passed, 0 failed"),
    (0, "Ran 1 test in 0.1s\n\nOK (skipped=1)\n",
     "0 passed, 0 failed, 1 skipped"),
    (1, "Ran 9 tests in 0.1s\n\nFAILED (failures=2, errors=1, skipped=1)\n",
     "5 passed, 3 failed, 1 skipped"),
    (0, "corpus/a: 7 files\n", "1 passed, 0 failed"),
    (1, "corpus/a: 0 files\n", "0 passed, 1 failed"),
    (-6, "corpus/a: 7 files\n", "1 passed, 1 failed"),
])
def test_a_program_is_judged_by_its_counts(runner, capsys, status, output,
                                           line):
    total = runner.Sum()
    runner.judge(total, "x", status, output)
    assert total.line() == line


def test_a_report_that_is_cut_short_counts_as_none(runner, tmp_path):
    path = tmp_path / "pytest.xml"
    path.write_text("<testsuites><testsuite><testcase name='a'/>")
    assert runner.count_junit(str(path)) is None
    assert runner.count_junit(str(tmp_path / "absent.xml")) is None


def test_a_report_is_counted(runner, tmp_path):
    path = tmp_path / "pytest.xml"
    path.write_text("<testsuites><testsuite><testcase name='a'/>"
                    "<testcase name='b'><failure/></testcase>"
                    "<testcase name='c'><error/></testcase>"
                    "<testcase name='d'><skipped/></testcase>"
                    "</testsuite></testsuites>")
    assert runner.count_junit(str(path)) == (1, 2, 1)


def test_a_hanging_program_is_ended(runner):
    status, _ = runner.run(["sleep", "100"], 0.2)
    assert status is None


def test_a_wrong_word_is_refused():
    done = subprocess.run([sys.executable,
                           os.path.join(ROOT, "scripts", "test.py"), "nonsense"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          check=False)
    assert done.returncode == 64
