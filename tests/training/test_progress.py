import logging
import os

import pytest

from insightface_mx.training import progress


@pytest.fixture(autouse=True)
def other_tests_logging():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(before):
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_log_file_on_a_full_disk_ends_with_one_warning(tmp_path, capsys):
    (tmp_path / "model.log").symlink_to("/dev/full")
    progress.start_logging(str(tmp_path / "model"))
    for number in range(3):
        logging.info("line %d", number)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line for line in lines if line.startswith("line")] == ["line 0", "line 1", "line 2"]
    assert [line for line in lines if "model.log ends here: it cannot be written any more" in line] == [lines[1]]
    assert "Traceback" not in said.out + said.err


def test_a_line_that_has_no_encoding_does_not_end_the_log_file(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    progress.start_logging(str(tmp_path / "model"))
    for line in ("before", "photos/\udce9.jpg", "after"):
        logging.info(line)
    lines = (tmp_path / "model.log").read_text().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["before", "after"]
