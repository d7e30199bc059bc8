import pytest
from tensorboardX.proto.event_pb2 import Event

from sbir_jax.runtime import metric_writer


def fill(workdir, start, steps):
    out = metric_writer.MetricWriter(workdir, start)
    for step in steps:
        out.write_scalars(step, {"loss": step / 10})
    out.close()


def test_rows_come_back(tmp_path):
    fill(tmp_path, 0, [1, 2])
    assert metric_writer.read(tmp_path) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 0.2},
    ]


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    fill(tmp_path, 0, [1, 2, 3, 4])
    # The checkpoint was of step 2: rows 3 and 4 will be written once more.
    fill(tmp_path, 2, [3, 4])
    assert [row["step"] for row in metric_writer.read(tmp_path)] == [1, 2, 3, 4]


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    fill(tmp_path, 0, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert [row["step"] for row in metric_writer.read(tmp_path)] == [1]


def test_event_file_holds_the_scalars(tmp_path):
    fill(tmp_path, 0, [1, 2])
    (path,) = tmp_path.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        # A record: length (8 bytes), its checksum (4), the event, its checksum (4).
        size = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + size])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        data = data[16 + size :]
    assert [(step, tag) for step, tag, _ in found] == [(1, "loss"), (2, "loss")]


@pytest.mark.parametrize(
    "line", ["[1]", "{}", '{"step": "2"}', "[" * 100_000, "\udcff"]
)
def test_a_line_that_is_no_row_is_left_out(tmp_path, line):
    fill(tmp_path, 0, [1])
    with (tmp_path / "metrics.jsonl").open("a", errors="surrogateescape") as file:
        file.write(f"{line}\n")
    assert [row["step"] for row in metric_writer.read(tmp_path)] == [1]
