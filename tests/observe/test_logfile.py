"""The file of the access log: who may read it, what it may be, and that it is opened anew by its name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hotswap_proxy.observe.logfile import LogFile, LogFileError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def _strict_umask() -> object:
    before = os.umask(0o077)  # a node's
    yield
    os.umask(before)


def test_a_file_is_made_for_owner_and_group(tmp_path: Path) -> None:
    file = LogFile(str(tmp_path / "access.log"))
    assert mode(tmp_path / "access.log") == 0o640
    assert not os.get_inheritable(file.fd)
    file.close()


def test_a_file_that_is_there_is_appended_to_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    path.chmod(0o600)
    file = LogFile(str(path))
    os.write(file.fd, b"after\n")
    with path.open("a") as other:
        other.write("another's\n")
    os.write(file.fd, b"last\n")
    file.close()
    assert path.read_text() == "before\nafter\nanother's\nlast\n"
    assert mode(path) == 0o600


def test_opened_anew_it_is_the_file_that_has_the_name_now(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = LogFile(str(path))
    os.write(file.fd, b"1\n")
    path.rename(tmp_path / "access.log.1")
    os.write(file.fd, b"2\n")
    assert file.reopen()
    os.write(file.fd, b"3\n")
    file.close()
    assert (tmp_path / "access.log.1").read_text() == "1\n2\n"
    assert path.read_text() == "3\n"
    assert mode(path) == 0o640


def test_opened_anew_in_vain_it_stays_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    file = LogFile(str(tmp_path / "logs" / "access.log"))
    (tmp_path / "logs").rename(tmp_path / "moved")
    with pytest.raises(LogFileError, match=r"the directory .*logs does not exist"):
        file.reopen()
    os.write(file.fd, b"still\n")
    file.close()
    assert (tmp_path / "moved" / "access.log").read_text() == "still\n"


def test_a_relative_path_is_that_of_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = LogFile("access.log")
    monkeypatch.chdir("/")
    (tmp_path / "access.log").unlink()
    file.reopen()
    file.close()
    assert (tmp_path / "access.log").exists()


def test_what_cannot_be_a_log_is_refused(tmp_path: Path) -> None:
    for target, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / "access.log", f"the directory {tmp_path}/none does not exist"),
        (Path("/proc/version/x"), "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(LogFileError) as error:
            LogFile(str(target))
        assert str(error.value) == f"cannot write the access log {target}: {reason}"


def test_links_are_followed_if_they_are_ours(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.symlink_to(tmp_path / "volume.log")
    with pytest.raises(LogFileError, match="the file that it links to does not exist"):
        LogFile(str(path))  # not made through a link
    (tmp_path / "volume.log").touch()
    LogFile(str(path)).close()
    os.lchown(path, 12345, 12345)
    with pytest.raises(LogFileError, match="a link that another user has made"):
        LogFile(str(path))


def test_a_pipe_does_not_wait_for_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    file = LogFile(str(path))
    os.write(file.fd, b"line\n")
    with path.open("rb", buffering=0) as reader:
        assert reader.read(5) == b"line\n"
    file.close()


def test_standard_output_waits_for_its_reader(capfd: pytest.CaptureFixture[str]) -> None:
    os.set_blocking(1, False)
    try:
        file = LogFile("-")
        assert os.get_blocking(file.fd)
        assert file.name == "standard output"
        os.write(file.fd, b"line\n")
        assert not file.reopen()
        file.close()
    finally:
        os.set_blocking(1, True)
    assert capfd.readouterr().out == "line\n"
