"""The log file, the lines and the TensorBoard scalars of a run."""

from __future__ import annotations

import dataclasses
import logging
import logging.handlers
import os
import re
import struct
import subprocess
import sys
import threading

import pytest
from harness import no_file_over
from tensorboardX.proto.event_pb2 import Event

from insightface_mx.base.compat import mx
from insightface_mx.base.errors import UserError
from insightface_mx.training import progress


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_log_file_on_a_full_disk_ends_with_one_warning(tmp_path, capsys):
    (tmp_path / "model.log").symlink_to("/dev/full")
    progress.start_logging(str(tmp_path / "model"))
    after = logging.handlers.BufferingHandler(9)
    logging.getLogger().addHandler(after)
    for number in range(3):
        logging.info("line %d", number)
    heard = [record.getMessage() for record in after.buffer if record.getMessage().startswith("line")]
    assert heard == ["line 0", "line 1", "line 2"]  # no handler misses a message because the one before it ended
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
    assert [line.rpartition(" ")[2] for line in lines] == ["before", "photos/\\udce9.jpg", "after"]


def test_lines_are_on_standard_output_and_with_the_time_in_the_log_file(tmp_path, capsys):
    progress.start_logging(str(tmp_path / "new" / "model"))
    logging.info("seed %d", 3)
    assert capsys.readouterr() == ("seed 3\n", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} seed 3\n", (tmp_path / "new" / "model.log").read_text())


def test_a_log_file_that_cannot_be_opened(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}/file/model.log: .*; choose another --prefix"):
        progress.start_logging(str(tmp_path / "file" / "model"))


@dataclasses.dataclass
class Position:
    """A run's place in its data."""

    epoch: int = 0
    batch: int = 0
    batches_per_epoch: int = 30
    batch_size: int = 8


def show(steps, tensorboard="", rate=lambda step: 0.1 if step < 5 else 0.01):
    """Show batches with a metric that has the number of the batch as its value."""
    position, metric = Position(), mx.metric.Loss("loss")
    with progress.Progress(position, steps, tensorboard) as shown:
        for step in range(1, steps + 1):
            position.epoch, position.batch = (step - 1) // 30, (step - 1) % 30 + 1
            metric.update(None, [mx.nd.array([step])])
            shown.batch(step, metric, rate(step))
    return metric


def test_lines_of_batches_rates_and_epochs(caplog):
    caplog.set_level(logging.INFO)
    metric = show(45)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "learning rate" in line] == [
        "batch 1: learning rate 0.1",
        "batch 5: learning rate 0.01",
    ]
    assert [line for line in lines if line.startswith("Epoch[0] Train-")] == ["Epoch[0] Train-loss=15.500000"]
    (speed,) = [line for line in lines if "Speed: " in line]
    assert re.match(r"Epoch\[0\] Batch \[0-20\]\tSpeed: [\d.]+ samples/sec\tloss=", speed)
    assert metric.get_global() == ("loss", 23.0)  # of all 45 batches: only the loop resets it


@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        (lambda step: 0.1 * min(1, step / 10), [(1, 0.01), (2, 0.02), (3, 0.03), (5, 0.05), (8, 0.08), (11, 0.1)]),
        (lambda step: 0.1 if step < 3 else 0.08, [(1, 0.1), (4, 0.08)]),
        (
            lambda step: 1 - step / 40,
            [(1, 0.975), (21, 0.475), (31, 0.225), (36, 0.1), (38, 0.05), (39, 0.025), (40, 0)],
        ),
    ],
    ids=["warm-up", "small step", "falling"],
)
def test_a_rate_that_changes_with_every_batch_is_not_a_line_a_batch(rate, shown, caplog):
    caplog.set_level(logging.INFO)
    show(40, rate=rate)
    lines = re.findall(r"batch (\d+): learning rate (\S+)", caplog.text)
    assert [(int(step), float(value)) for step, value in lines] == shown


def test_scalars_go_to_tensorboard_every_20_batches(tmp_path):
    show(45, str(tmp_path / "board"))
    (file,) = os.listdir(tmp_path / "board")
    content = (tmp_path / "board" / file).read_bytes()
    assert content.count(b"lr") == content.count(b"loss") == 2


def test_tensorboard_reads_the_file(tmp_path):
    show(21, str(tmp_path / "board"))
    (file,) = (tmp_path / "board").iterdir()
    content, events = file.read_bytes(), []
    while content:
        (length,) = struct.unpack_from("<Q", content)
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[12 + length + 4 :]
    assert events[0].file_version == "brain.Event:2"
    values = {(event.step, value.tag): value.simple_value for event in events[1:] for value in event.summary.value}
    assert values == {(20, "lr"): pytest.approx(0.01), (20, "loss"): pytest.approx(10.5)}


def test_tensorboard_on_a_full_disk_ends_with_one_warning(tmp_path, caplog):
    for size in (0, 60):
        with no_file_over(size):
            show(65, str(tmp_path / "board"))
        (line,) = [line for line in caplog.messages if "--tensorboard" in line]
        assert line == f"--tensorboard: {tmp_path}/board ends here: it cannot be written (File too large)"
        caplog.clear()
    assert [thread for thread in threading.enumerate() if "Event" in type(thread).__name__] == []


def test_tensorboard_in_a_place_that_is_no_folder(tmp_path, caplog):
    (tmp_path / "board").write_text("")
    show(45, str(tmp_path / "board"))
    assert len([line for line in caplog.messages if "ends here: it cannot be written (File exists)" in line]) == 1


@pytest.mark.slow
def test_without_tensorboard_it_is_not_imported():
    code = (
        "import sys\n"
        "from insightface_mx.training.progress import Progress\n"
        "class Data: batch_size, epoch, batch, batches_per_epoch = 1, 0, 0, 1\n"
        "with Progress(Data, 1): pass\n"
        "print('tensorboardX' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
