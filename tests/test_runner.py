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


STEPS = ("build", "meson_tests", "scenarios", "kernel", "matrix", "bare", "door",
         "rules", "coverage", "fuzz")


@pytest.fixture
def steps(runner, monkeypatch):
    """The names of the runner's steps as they are made, by nobody."""
    made = []

    def stub(name):
        def step(total, *_):
            made.append(name)
            total.add(1, 0)
            return True
        return step

    for name in STEPS:
        monkeypatch.setattr(runner, name, stub(name))
    return made


def test_both_rows_run_and_wait_for_what_they_need(runner, steps):
    parts = runner.Parts(list(runner.PARTS), [])
    parts.run()
    assert sorted(steps) == sorted(STEPS)
    assert parts.total.line() == f"{len(STEPS)} passed, 0 failed"
    assert set(runner.PARTS) <= set(parts.seconds)
    # The build without sanitizers is there for the scenarios, and the tests'
    # counts for the rules.
    assert steps.index("matrix") < steps.index("scenarios")
    assert steps.index("meson_tests") < steps.index("rules")


@pytest.mark.parametrize("name", ["meson_tests", "matrix", "rules", "fuzz"])
def test_a_row_that_breaks_is_a_failure_and_stops_not_the_other(
        runner, steps, monkeypatch, capsys, name):
    def breaks(*_):
        raise OSError("no more")

    monkeypatch.setattr(runner, name, breaks)
    parts = runner.Parts(list(runner.PARTS), [])
    parts.run()
    assert parts.total.failed == 1
    assert "OSError: no more" in capsys.readouterr().out
    assert ("kernel" if name in ("matrix", "rules", "fuzz") else "fuzz") in steps


def test_one_part_asks_for_no_other(runner, steps):
    parts = runner.Parts(["kernel"], [])
    parts.run()
    assert steps == ["kernel"]
