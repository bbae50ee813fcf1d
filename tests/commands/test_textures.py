from mem3r_plugin.commands.main import main


def test_without_apt_it_is_one_line_and_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["textures", str(tmp_path / "textures")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mem3r: error: apt-get and dpkg-deb are needed")
    assert not (tmp_path / "textures").exists()


def test_a_folder_in_use_is_not_touched(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["textures", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
