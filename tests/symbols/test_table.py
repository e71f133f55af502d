"""The counts of the table of networks, against the published counts and a network counted by hand."""

import pathlib
import subprocess
import sys

import pytest
from harness import run, status_of

from insightface_mx import symbols
from insightface_mx.base.compat import mx
from insightface_mx.symbols import NAMES, get_symbol, table

PUBLISHED = {  # parameters, multiplications and additions; as published: 34.14 M and 8.91 G, and so on
    "r34": (34139328, 8914217984, "34.14", "8.91"),
    "r50": (43590848, 12612791296, "43.59", "12.61"),
    "r100": (65156160, 24169929728, "65.16", "24.17"),
    "y1-GDC-128": (1003264, 438725248, "1.00", "0.44"),
}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("row", PUBLISHED)
def test_counts_are_the_published_ones(row):
    parameters, flops, *_ = PUBLISHED[row]
    assert table.count_parameters(table.build(row)) == parameters
    assert table.count_flops(table.build(row)) == flops


@pytest.mark.parametrize("row", PUBLISHED)
def test_a_line_shows_the_published_counts(row):
    name, parameters, flops, *_ = cells(table.line(row))
    assert (name, parameters, flops) == (row, *PUBLISHED[row][2:])


def test_counts_of_a_network_counted_by_hand():
    body = mx.sym.Convolution(mx.sym.Variable("data"), kernel=(3, 3), num_filter=6, num_group=3, no_bias=True, name="a")
    body = mx.sym.Convolution(body, kernel=(110, 110), num_filter=5, weight=mx.sym.Variable("shared"), name="b")
    body = mx.sym.BatchNorm(mx.sym.FullyConnected(body, num_hidden=4, name="c"), name="d")
    grouped, whole, dense = 6 * 110 * 110 * (2 * 9 - 1), 5 * 2 * 6 * 110 * 110, 4 * 2 * 5
    assert table.count_flops(body) == grouped + whole + dense
    assert table.count_parameters(body) == 6 * 9 + 5 * (6 * 110 * 110 + 1) + 4 * (5 + 1) + 2 * 4
    assert table.count_moving_averages(body) == 2 * 4


def test_outputs_and_embeddings_of_the_rows():
    assert cells(table.line("y1-GDC-128"))[3] == "128"
    assert cells(table.line("y1-GDC"))[3] == "512"
    assert table.build("r18-GNAP-256").tojson() == get_symbol("r18", 256, version_output="GNAP").tojson()


def test_the_checkpoint_is_as_large_as_the_file(tmp_path):
    symbol = table.build("y1-GDC-128")
    arguments, _, auxiliary = symbol.infer_shape(data=(1, 3, 112, 112))
    arrays = dict(zip(symbol.list_arguments(), arguments))
    del arrays["data"]
    arrays.update(zip(symbol.list_auxiliary_states(), auxiliary))
    mx.nd.save(str(tmp_path / "y1.params"), {name: mx.nd.zeros(shape) for name, shape in arrays.items()})
    size = (tmp_path / "y1.params").stat().st_size / 1e6
    assert float(cells(table.line("y1-GDC-128"))[4]) == pytest.approx(size, rel=0.02)


def test_the_command_prints_a_table_under_what_it_counts(capsys):
    run(table, "s20", "y1-GDC-128")
    *notes, titles, rule, first, second, end = capsys.readouterr().out.split("\n")
    assert "\n".join(notes) == table.NOTES
    assert cells(titles) == ["network", "parameters (M)", "FLOPs (G)", "embedding", "checkpoint (MB)"]
    assert len(cells(rule)) == 5
    assert cells(first) == ["s20", "24.50", "4.08", "512", "98.0"]
    assert cells(second) == ["y1-GDC-128", "1.00", "0.44", "128", "4.1"]
    assert end == ""


def test_the_default_is_every_network_and_the_papers_mobilefacenet(monkeypatch, capsys):
    monkeypatch.setattr(table, "line", lambda row: row)
    run(table)
    assert capsys.readouterr().out.splitlines()[-len(NAMES) - 1 :] == [*NAMES, "y1-GDC-128"]


def test_help_says_what_is_counted(capsys):
    assert status_of(table, "--help") == 0
    assert table.NOTES in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("r51", "r51: network 'r51' does not exist: choose from"),
        ("r18-EX", "r18-EX: version_output 'EX' does not exist: choose from"),
        ("s20-GDC", "s20-GDC: spherenet does not use version_output"),
        ("r18-E-0", "'r18-E-0' is no network: write NETWORK[-OUTPUT[-EMBEDDING]]"),
        ("r18-128", "'r18-128' is no network: write NETWORK[-OUTPUT[-EMBEDDING]]"),
    ],
)
def test_a_row_that_is_no_network_ends_the_command_before_it_prints(row, says, capsys):
    assert status_of(table, "s20", row) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {says}")


@pytest.mark.slow
def test_the_file_runs_as_a_script():
    path = pathlib.Path(symbols.__file__).parent / "table.py"
    printed = subprocess.run([sys.executable, str(path), "y1-GDC-128"], capture_output=True, text=True, check=True)
    assert cells(printed.stdout.splitlines()[-1])[:3] == ["y1-GDC-128", "1.00", "0.44"]


def test_help_does_without_mxnet():
    code = (
        "import sys\nfrom insightface_mx.symbols import table\n"
        "try:\n    table.main(['--help'])\nexcept SystemExit:\n    print('mxnet' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[-1] == "False"


def test_the_package_has_no_other_names_than_its_networks():
    assert sorted(symbols.__all__) == ["Family", "NAMES", "NETWORKS", "from_config", "get_initializer", "get_symbol"]
    with pytest.raises(AttributeError, match="has no attribute 'get_head'"):
        symbols.get_head  # noqa: B018
