"""The data folder: where it is, who may use it, and that nothing else is changed."""

import os
from pathlib import Path

import pytest

import parley
from parley.core.embedded.errors import EmbeddedError
from parley.core.embedded.folder import DataFolder, find_data_folder, make_data_folder


def test_a_configured_folder_is_taken_and_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert find_data_folder(Path("here")).path == tmp_path.resolve() / "here"


def test_a_checkout_keeps_its_data_beside_its_project_file() -> None:
    assert find_data_folder(None).path == Path(__file__).parents[3] / ".parley"


def test_an_installed_package_keeps_its_data_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parley, "__file__", str(tmp_path / "lib" / "python" / "parley" / "__init__.py"))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert find_data_folder(None, {"XDG_STATE_HOME": "/state"}).path == Path("/state/parley")
    assert find_data_folder(None, {"XDG_STATE_HOME": "relative"}).path == tmp_path / ".local/state/parley"
    monkeypatch.setattr("sys.platform", "darwin")
    assert find_data_folder(None, {}).path == tmp_path / "Library/Application Support/parley"


def test_a_new_folder_is_private_and_its_parents_keep_their_permissions(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o750)
    before = [path.stat().st_mode for path in (parent, *parent.parents)]

    make_data_folder(DataFolder(parent / "data"))

    assert [path.stat().st_mode for path in (parent, *parent.parents)] == before
    assert (parent / "data").stat().st_mode & 0o777 == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_folder_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    make_data_folder(DataFolder(tmp_path))

    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")

    with pytest.raises(EmbeddedError, match="is not a folder"):
        make_data_folder(DataFolder(path))


def test_a_folder_of_another_account_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.lock.write_text("")
    if os.geteuid() == 0:
        os.chown(folder.lock, 65533, 65533)
    else:
        tmp_path.chmod(0o500)

    with pytest.raises(EmbeddedError, match="PARLEY_DATA_DIR"):
        make_data_folder(folder)
    tmp_path.chmod(0o700)
