"""`data formats`, `inspect`, `validate` and `stats` as a script meets them; every kind of bad input is one sentence."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamahome_tui.schemas import RESULTS, results_schema
from tests.conftest import COMMAND, clean_environ, eventually, processes_of
from tests.schema import problems
from tests.unit.data import templates

GOOD = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "four"}]}
LINE = json.dumps(GOOD).encode() + b"\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(templates.write_tokenizer(tmp_path_factory.mktemp("models") / "chatml", "bytes", templates.CHATML))


def written(name: str, *rows: Any) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def chat(*said: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def test_formats_names_all_that_a_spec_may_say(run_cli):
    done = run_cli("data", "formats", "--json")
    assert problems(RESULTS["data formats"], done.data) == []
    assert {"text", "completion", "alpaca", "sharegpt", "messages", "preference", "labels"} == {
        one["name"] for one in done.data
    }
    for one in done.data:
        path = written("one.jsonl", json.loads(one["example"]))
        assert run_cli("data", "validate", path, "--json").data["format"] == one["name"]
    assert '{"text":' in run_cli("data", "formats").out


def test_inspect_in_json_and_for_people(run_cli, model):
    path = written("a.jsonl", chat(("user", "hi"), ("assistant", "it is fine 🦙")), GOOD)
    done = run_cli("data", "inspect", path, "--model", model, "--json")
    assert (done.status, len(done.lines)) == (0, 1)
    assert problems(results_schema(), done.last) == problems(RESULTS["data inspect"], done.data) == []
    row = done.data
    assert (
        "".join(row["pieces"])
        == row["text"]
        == ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nit is fine 🦙<|im_end|>\n")
    )
    assert set(row["mask"]) == {0, 1}
    learned = "".join(piece for piece, mask in zip(row["pieces"], row["mask"], strict=True) if mask)
    assert learned == "it is fine 🦙<|im_end|>"
    assert row["trained_tokens"] == sum(row["mask"])
    plain = run_cli("data", "inspect", path, "--model", model)
    assert "learned | it is fine 🦙<|im_end|>" in plain.out
    assert "\x1b" not in plain.out
    assert "four" in run_cli("data", "inspect", path, "--model", model, "--row", "2").out
    last = run_cli("data", "inspect", path, "--model", model, "--row", "3", "--json")
    assert (last.status, last.last["data"]["rows"]) == (4, 2)
    assert "2 rows" in last.last["message"]


def on_a_terminal(home: Path, *words: str, **env: str) -> str:
    """What the command writes to a terminal."""
    outer, inner = pty.openpty()
    environ = {**clean_environ(home), "TERM": "xterm-256color", **env}
    process = subprocess.Popen([*COMMAND, "--batch", *words], stdin=inner, stdout=inner, stderr=inner, env=environ)
    os.close(inner)
    said = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:
            break
        said += piece
    os.close(outer)
    assert process.wait() == 0, said
    return said.decode()


def test_inspect_on_a_terminal_marks_what_is_learned_by_colour_and_underline(home, model):
    path = written("a.jsonl", chat(("user", "\x1b]52;c;aGk=\x07hi"), ("assistant", "it \x1b[2Jis")))
    said = on_a_terminal(home, "data", "inspect", path, "--model", model)
    assert "".join(re.findall("\x1b\\[4;32m(.*?)\x1b\\[0m", said)) == "it [2Jis<|im_end|>"
    assert not re.search("\x1b(?!\\[(4;32|2|0)m)", said)
    plain = on_a_terminal(home, "data", "inspect", path, "--model", model, NO_COLOR="1")
    assert "\x1b[4m" in plain
    assert "32m" not in plain


def test_a_spec_gives_model_and_settings(run_cli, model):
    written("t.jsonl", chat(("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")))
    written("h.jsonl", chat(("user", "c"), ("assistant", "three")))
    Path("s.toml").write_text(
        f'[model]\nid = "{model}"\n[data]\ntrain = ["t.jsonl"]\neval = "h.jsonl"\ntrain_on = "last"\n'
    )
    words = ("data", "inspect", "s.toml", "--json")
    first = run_cli(*words).data
    assert first["trained_tokens"] < run_cli(*words, "--set", "data.train_on=assistant").data["trained_tokens"]
    assert run_cli("data", "validate", "s.toml", "--json").data["rows"] == 2
    stats = run_cli("data", "stats", "s.toml", "--json").data
    assert (stats["rows"], stats["overlap"]["against"], stats["overlap"]["rows"]) == (1, "file", 1)
    other = run_cli("data", "inspect", "s.toml", "--model", "demo", "--json")
    assert other.data["ids"] != first["ids"]
    assert run_cli("data", "validate", "s.toml", "t.jsonl", "--json").last["exit"] == 2
    unknown = run_cli("data", "validate", "t.jsonl", "--set", "data.trian_on=last", "--json")
    assert (unknown.status, unknown.last["data"]["errors"][0]["nearest"]) == (3, "data.train_on")


def test_without_a_model_it_says_how_to_name_one(run_cli):
    path = written("a.jsonl", GOOD)
    for verb in ("inspect", "stats"):
        done = run_cli("data", verb, path, "--json")
        assert (done.status, done.last["code"]) == (2, "usage")
        assert f"data {verb} {path} --model demo" in done.last["hint"]
    assert run_cli("data", "stats", "demo", "--json").data["rows"] > 100


def test_several_files_and_globs(run_cli, model):
    for name in "abc":
        written(f"{name}.jsonl", GOOD, GOOD)
    assert run_cli("data", "validate", "a.jsonl", "b.jsonl", "--json").data["rows"] == 4
    assert run_cli("data", "validate", "*.jsonl", "--json").data["rows"] == 6
    stats = run_cli("data", "stats", "*.jsonl", "--model", model, "--json")
    assert stats.data["duplicates"]["exact"] == 5
    assert problems(RESULTS["data stats"], stats.data) == []
    assert (
        run_cli("data", "inspect", "*.jsonl", "--model", model, "--row", "5", "--json").data["file"].endswith("c.jsonl")
    )


def test_a_model_folder_needs_no_weights_but_a_tokenizer(run_cli, model):
    path = written("a.jsonl", GOOD)
    folder = Path("bare")
    shutil.copytree(model, folder)
    for name, content, said in (
        ("tokenizer.json", None, "has no tokenizer.json"),
        ("tokenizer.json", "{", "is no tokenizer"),
    ):
        (folder / name).write_text(content) if content else (folder / name).unlink()
        done = run_cli("data", "stats", path, "--model", "./bare", "--json")
        assert (done.status, done.last["code"].split(".")[0]) == (3, "model")
        assert said in done.last["message"]
        assert done.last["hint"] == f"see what is there: llamahome --batch models show {folder.resolve()}"


def test_stats_for_people_draws_the_lengths(run_cli, model):
    path = written("a.jsonl", *(chat(("user", "a"), ("assistant", "what is it " * n)) for n in range(1, 60)))
    held = written("b.jsonl", *(chat(("user", "a"), ("assistant", "what is it " * n)) for n in range(1, 60)))
    done = run_cli("data", "stats", path, "--model", model, "--eval", held, "--set", "data.max_length=40")
    assert done.status == 0
    assert "█" in done.out
    assert "\x1b" not in done.out
    assert re.search(r"too long +\d+ rows over 40 tokens", done.out)
    assert "59 exact, 0 near, of 59 rows of the eval file" in done.out


# Bad input (F40, T12, T15): what is written, and the line, field and words that the answer must have.
def _deep() -> bytes:
    return b'{"messages": ' + b"[" * 10_000 + b"]" * 10_000 + b"}\n"


def _line(*said: tuple[str, str]) -> bytes:
    return json.dumps(chat(*said)).encode() + b"\n"


BAD: dict[str, tuple[Callable[[], bytes], int, str, str]] = {
    "a wrong encoding": (lambda: LINE + LINE.replace(b"four", b"\xe9"), 2, "", "UTF-8"),
    "UTF-16": (lambda: LINE.decode().encode("utf-16"), 1, "", "UTF-16"),
    "NUL bytes": (lambda: LINE + LINE.replace(b"four", b"fo\\u0000ur"), 2, "messages", "NUL"),
    "a torn line": (lambda: LINE + b"\0" * 500 + b"\n", 2, "", "NUL bytes"),
    "NaN": (lambda: LINE + b'{"messages": NaN}\n', 2, "", "NaN"),
    "nested 10,000 deep": (lambda: LINE + _deep(), 2, "", "nested"),
    "a missing column": (lambda: LINE + b'{"message": 1}\n', 2, "messages", "is missing"),
    "mixed formats": (lambda: LINE * 3 + b'{"instruction": "a", "output": "b"}\n', 4, "messages", "is missing"),
    "an empty file": (lambda: b"", 0, "", "has no rows"),
    "roles out of order": (lambda: LINE + _line(("user", "a"), ("system", "b"), ("assistant", "c")), 2,
                           "messages[1].role", "must come first"),
    "a tool's answer to nobody": (lambda: LINE + _line(("user", "a"), ("tool", "b"), ("assistant", "c")), 2,
                                  "messages[1].role", "tool"),
    "an unknown role": (lambda: LINE.replace(b'"user"', b'"usr"'), 1, "messages[0].role", "usr"),
    "an empty assistant turn": (lambda: LINE + _line(("user", "a"), ("assistant", "  ")), 2, "messages[1]", "empty"),
    "no assistant": (lambda: _line(("user", "a")), 1, "messages", "assistant"),
    "no object": (lambda: LINE + b"[1, 2]\n", 2, "", "list"),
    "half a character": (lambda: LINE + LINE.replace(b"four", b"\\ud800"), 2, "messages", "surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_input_is_one_sentence_with_its_place(run_cli, model, kind):
    make, line, field, said = BAD[kind]
    Path("bad.jsonl").write_bytes(make())
    place = str(Path("bad.jsonl").resolve())
    answers = [
        run_cli("data", "validate", "bad.jsonl", "--json"),
        run_cli("data", "stats", "bad.jsonl", "--model", model, "--json"),
        run_cli("data", "inspect", "bad.jsonl", "--model", model, "--row", str(max(1, line)), "--json"),
    ]
    for done in answers:
        assert done.status == 3, done
        assert problems(results_schema(), done.last) == []
        assert "llamahome --batch" in done.last["hint"]
        assert done.last["message"].startswith(place)
        assert done.last["message"].count("\n") == 0
        (bad, *_) = done.last["data"]["bad"]
        assert (bad["file"], bad["line"]) == (place, line)
        assert bad["field"].startswith(field)
        assert said in bad["reason"]
        assert done.seconds < 10
    assert answers[0].last["data"].keys() == {"rows", "format", "bad", "bad_count"}
    people = run_cli("data", "validate", "bad.jsonl")
    assert (people.status, people.out) == (3, "")
    assert people.err.startswith(f"llamahome: {place}")


def test_a_byte_order_mark_is_no_fault(run_cli):
    Path("bom.jsonl").write_bytes(b"\xef\xbb\xbf" + LINE)
    assert run_cli("data", "validate", "bom.jsonl", "--json").data["rows"] == 1


def test_a_chat_that_starts_with_an_answer_is_refused_where_its_mask_is_made(run_cli, model):
    path = written("a.jsonl", GOOD, chat(("assistant", "a"), ("user", "b")))
    for words in (("stats", path), ("inspect", path, "--row", "2")):
        done = run_cli("data", *words, "--model", model, "--json")
        assert (done.status, done.last["data"]["bad"][0]["line"]) == (3, 2)


def test_a_person_gets_the_numbers_of_the_other_rows_and_the_same_command_again(run_cli, model):
    path = written("a.jsonl", GOOD, {"messages": 3}, GOOD)
    done = run_cli("data", "stats", path, "--model", model, "--set", "data.train_on=last")
    assert done.status == 3
    assert done.out.splitlines()[0].split() == ["rows", "2"]
    assert "bad         1 row that cannot be used, counted nowhere else" in done.out
    assert done.err.splitlines()[-2] == f"llamahome: {Path(path).resolve()}:2: messages: is no list but a number"
    assert done.err.splitlines()[-1].endswith(
        f"llamahome --batch data stats a.jsonl --model {model} --set data.train_on=last"
    )
    for words in (("validate", path), ("inspect", path, "--model", model, "--row", "2")):
        said = run_cli("data", *words, "--set", "data.format=messages").err.splitlines()[-1]
        assert said.endswith(" ".join(("llamahome --batch data", *words, "--set data.format=messages")))


def test_every_bad_row_is_counted_and_a_hundred_are_listed(run_cli):
    path = written("a.jsonl", *([GOOD] * 20 + [{"messages": 3}] * 250))
    done = run_cli("data", "validate", path, "--json")
    assert done.status == 3
    data = done.last["data"]
    assert (data["rows"], data["bad_count"], len(data["bad"]), data["format"]) == (20, 250, 100, "messages")
    assert [one["line"] for one in data["bad"]] == list(range(21, 121))


def test_a_line_of_200_mb_costs_neither_memory_nor_time(run_cli):
    with Path("long.jsonl").open("wb") as stream:
        stream.write(LINE + b'{"messages": "')
        stream.writelines(b"x" * (1 << 20) for _ in range(200))
        stream.write(b'"}\n' + LINE)
    # VmHWM is of this process alone; ru_maxrss begins with what the parent had when it forked.
    code = (
        "import sys; from llamahome_tui.cli import main; status = main(sys.argv[1:]);"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0], file=sys.stderr); sys.exit(status)"
    )
    done = run_cli("data", "validate", "long.jsonl", "--json", command=(COMMAND[0], "-c", code, "--batch"))
    assert done.status == 3
    assert (done.last["data"]["rows"], done.last["data"]["bad_count"]) == (2, 1)
    assert done.last["data"]["bad"][0]["line"] == 2
    assert int(done.err.split()[-1]) < 200_000  # KiB
    assert done.seconds < 10


def test_a_folder_and_a_file_that_is_not_there(run_cli, model):
    Path("folder.jsonl").mkdir()
    for words in (("validate",), ("stats", "--model", model), ("inspect", "--model", model)):
        done = run_cli("data", words[0], "folder.jsonl", *words[1:], "--json")
        assert (done.status, done.last["exit"]) == (3, 3)
        assert "is a folder" in done.last["message"]
        assert str(Path("folder.jsonl").resolve()) in done.last["message"]
        assert run_cli("data", words[0], "none.jsonl", *words[1:], "--json").status == 4


def template_of(folder: Path, text: str, **config: object) -> str:
    return str(templates.write_tokenizer(folder / "own", "bytes", text, **config))


def test_a_template_that_raises(run_cli, tmp_path):
    model = template_of(tmp_path, templates.LLAMA2)
    path = written("a.jsonl", GOOD, chat(("system", "be kind"), ("user", "a"), ("assistant", "b")))
    done = run_cli("data", "stats", path, "--model", model, "--json")
    assert done.status == 3
    (bad,) = done.last["data"]["bad"]
    assert bad["line"] == 2
    assert "only user and assistant speak here" in bad["reason"]
    assert done.last["data"]["rows"] == 1


def test_t07_a_template_that_loops_or_eats_memory(run_cli, tmp_path):
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    path = written("a.jsonl", GOOD)
    for verb, text in (("inspect", endless), ("stats", "{{ 'a' * 4000000000 }}")):
        model = template_of(tmp_path, text + templates.CHATML)
        done = run_cli("data", verb, path, "--model", model, "--json")
        assert (done.status, done.last["code"]) == (3, "template.unbounded"), done
        assert "a.jsonl:1" in done.last["message"]
        assert f"data {verb} a.jsonl --model {model}" in done.last["hint"]
        assert "--set data.template=FILE" in done.last["hint"]


def test_a_tokenizer_without_end_of_turn(run_cli, tmp_path):
    model = template_of(tmp_path, templates.NO_END, eos_token=None)
    path = written("a.jsonl", GOOD)
    for verb in ("inspect", "stats"):
        done = run_cli("data", verb, path, "--model", model, "--json")
        assert (done.status, done.last["code"]) == (3, "tokenizer.no_end"), done
        assert "a.jsonl:1" in done.last["message"]
        assert "eos_token" in done.last["hint"]


def test_a_model_without_a_template_and_rows_that_are_chats(run_cli, tmp_path):
    model = str(templates.write_tokenizer(tmp_path / "base", "bytes"))
    done = run_cli("data", "inspect", written("a.jsonl", GOOD), "--model", model, "--json")
    assert (done.status, done.last["code"]) == (3, "template.missing")
    assert "data.template" in done.last["hint"]


@pytest.mark.torch
def test_train_start_says_the_same_before_anything_is_made(run_cli, home):
    Path("bad.jsonl").write_bytes(LINE + b'{"messages": NaN}\n')
    told = run_cli("data", "validate", "bad.jsonl", "--json").last
    refusing = written("refused.jsonl", GOOD, chat(("system", "be kind"), ("user", "a"), ("assistant", "b")))
    Path("t.jinja").write_text(templates.LLAMA2.replace("eos_token", "'<|end|>'").replace("bos_token", "''"))
    words = (refusing, "--set", "data.template=t.jinja", "--json")
    refused = run_cli("data", "stats", words[0], "--model", "demo", *words[1:]).last
    assert "only user and assistant speak here" in refused["message"]
    for said, data in ((told, ("bad.jsonl", "--json")), (refused, words)):
        done = run_cli("train", "start", "--model", "demo", "--data", *data)
        assert done.status == 3, done
        assert done.last["data"]["bad"] == said["data"]["bad"]
        assert done.last["message"] == said["message"]
    assert not list((home / "state").glob("runs/2*"))


def test_no_secret_reaches_the_children(run_cli, start_cli, home, tmp_path):
    """The environment of every process that renders, while it does."""
    secret = "hf_canaryCANARYcanaryCANARYcanary00"
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    model = template_of(tmp_path, endless + templates.CHATML)
    path = written("a.jsonl", GOOD)
    process = start_cli(
        "data", "inspect", path, "--model", model, "--json", env={"HF_TOKEN": secret, "WANDB_API_KEY": secret}
    )
    children: set[int] = set()
    limit = time.monotonic() + 20
    while not children and time.monotonic() < limit:
        children = {
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and _parent(entry) == process.pid
        }
        time.sleep(0.01)
    assert children
    time.sleep(0.2)  # past its exec
    for child in children:
        said = (Path("/proc") / str(child) / "environ").read_bytes() + (
            Path("/proc") / str(child) / "cmdline"
        ).read_bytes()
        assert said
        assert secret.encode() not in said
    process.send_signal(signal.SIGINT)  # the template would go on for all of its time
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert secret not in out + err


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0


def test_interrupted_it_leaves_nothing_behind(start_cli, home, model):
    path = written("a.jsonl", *(chat(("user", f"what {n}"), ("assistant", "it is fine " * 200)) for n in range(20_000)))
    process = start_cli("data", "stats", path, "--model", model, "--json")
    eventually(lambda: len(processes_of(home)) > 1, "children at work")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["exit"] == 130
    eventually(lambda: not processes_of(home), "the end of all children", timeout=2)
