"""Writing the four log files: whole lines, rotation among processes, no secrets, never in the way."""

from __future__ import annotations

import multiprocessing
import os
import re
import stat

from llamahome_tui.logs.files import ACCESS, ERROR, TRAINING, Limits, write
from llamahome_tui.logs.sinks import bridge_logging, open_sinks


def _write_many(folder, who):
    for number in range(300):
        write(
            folder, TRAINING, "info", f"writer {who} line {number} " + "x" * 80, Limits(rotate_bytes=20_000, keep=100)
        )


def test_many_processes_lose_no_line_over_rotations(tmp_path):
    workers = [
        multiprocessing.get_context("fork").Process(target=_write_many, args=(tmp_path, who)) for who in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    files = sorted((tmp_path / "models").glob("training.log*"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    assert len(files) > 4
    found = {re.search(r"writer (\d) line (\d+) ", line).groups() for line in lines}
    assert len(lines) == len(found) == 1200
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    writer", line) for line in lines)


def test_only_so_many_old_files_stay(tmp_path):
    for number in range(50):
        write(tmp_path, ERROR, "error", f"{number} " + "x" * 500, Limits(rotate_bytes=1000, keep=2))
    assert sorted(p.name for p in (tmp_path / "app").glob("error*")) == ["error.log", "error.log.1", "error.log.2"]


def test_modes_are_private_and_links_are_not_followed(tmp_path):
    logs = tmp_path / "a" / "logs"
    write(logs, ACCESS, "info", "x")
    assert stat.S_IMODE((logs / ACCESS).stat().st_mode) == 0o600
    assert stat.S_IMODE((logs / "app").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    target = tmp_path / "target"
    target.write_text("")
    (logs / "app" / "error.log").symlink_to(target)
    write(logs, ERROR, "error", "x")
    assert target.read_text() == ""


def test_what_cannot_be_written_is_passed_over(tmp_path):
    (tmp_path / "app").write_text("a file where the folder should be")
    write(tmp_path, ERROR, "error", "x")
    os.mkfifo(tmp_path / "models")
    write(tmp_path, TRAINING, "info", "x")


def test_tokens_and_levels(tmp_path):
    token = "hf_" + "CanaryCanaryCanaryCanaryCanary1234"
    write(tmp_path, ERROR, "error", f"login with {token} failed")
    write(tmp_path, ERROR, "debug", "too quiet")
    text = (tmp_path / ERROR).read_text()
    assert token not in text and "login with" in text and "quiet" not in text


def test_sinks_write_tracebacks_without_values_and_without_tokens(tmp_path):
    import logging

    token = "hf_" + "CanaryCanaryCanaryCanaryCanary1234"
    logger = open_sinks(tmp_path, Limits())
    try:
        secret = token + "x"
        raise ValueError(f"bad {token}{len(secret)}")
    except ValueError as error:
        logger.opt(exception=error).error("it broke")
    logger.bind(log=TRAINING).info("run x starts")
    bridge_logging(logger)
    logging.getLogger("somewhere").warning("a library warns")
    logging.getLogger().handlers.clear()
    text = (tmp_path / ERROR).read_text()
    assert "ValueError" in text and "it broke" in text and "somewhere: a library warns" in text
    assert token not in text
    assert "run x starts" not in text and "run x starts" in (tmp_path / TRAINING).read_text()
    assert not (tmp_path / ACCESS).exists()
