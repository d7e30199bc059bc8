"""A folder that is replaced is the old one or the new one, also after a kill."""

import pathlib
import shutil

import pytest

from sbir_jax.backbones import hub
from sbir_jax.runtime import replacing


class Killed(BaseException):
    pass


def write(folder, text):
    with replacing.written_aside(folder) as aside:
        (aside / "a.txt").write_text(text)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_at_any_rename_leaves_a_whole_folder(tmp_path, monkeypatch, renames):
    folder, rename, done = tmp_path / "model", pathlib.Path.rename, []
    write(folder, "old")

    def killed(*args):
        if len(done) == renames:
            raise Killed
        done.append(args)
        return rename(*args)

    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "rename", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill tidies nothing
        if renames < 2:
            with pytest.raises(Killed):
                write(folder, "new")
        else:
            write(folder, "new")
    found = hub.find_folder(folder, lambda _: None, lambda *_: [], "")
    assert (found / "a.txt").read_text() == ("new" if renames == 2 else "old")
    write(folder, "newest")
    assert (folder / "a.txt").read_text() == "newest"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_error_leaves_what_was_there(tmp_path):
    write(tmp_path / "model", "old")
    with pytest.raises(OSError), replacing.written_aside(tmp_path / "model"):
        raise OSError("disk full")
    assert (tmp_path / "model" / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
