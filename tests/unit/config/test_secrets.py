"""Secrets never stay in text or reach a child; the token is found where the Hub's tools keep it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamahome_tui.config.secrets import (
    holds_token,
    hub_token,
    is_secret_name,
    redact,
    secret_values,
    strip_secrets,
)

CANARY = "q7Zr9TnWc2LmXk4V"


@pytest.mark.parametrize(
    "text",
    [
        f"token hf_{CANARY}{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"authorization=Basic {CANARY}==",
        f'{{"api_key": "{CANARY}"}}',
        f"HF_TOKEN={CANARY}",
        f"password: {CANARY}",
        f"https://user:{CANARY}@host/path",
        f"sk-proj-{CANARY}",
        f"ghp_{CANARY}{CANARY}",
        f"OPENAI_API_KEY='{CANARY}'",
        f"--token={CANARY}",
    ],
)
def test_what_looks_secret_goes(text: str) -> None:
    shown = redact(text, ())
    assert CANARY not in shown
    assert "[redacted]" in shown
    assert redact(shown, ()) == shown


def test_wandb_keys_go_where_wandb_is_named() -> None:
    key = "0123456789abcdef0123456789abcdef01234567"
    assert key not in redact(f"wandb: logged in with {key}", ())
    assert key in redact(f"commit {key}", ())


def test_own_values_go_wherever_they_stand() -> None:
    values = secret_values({"MY_SECRET": CANARY, "PATH": "/usr/bin", "SHORT_KEY": "abc", "DB_PASSWORD": "hunter22"})
    assert redact(f"x{CANARY}y hunter22 /usr/bin abc", values) == "x[redacted]y [redacted] /usr/bin abc"


def test_honest_text_stays() -> None:
    text = "step 10 loss=0.5 tokens_per_s=1200 key tokens: 5 https://huggingface.co/a/b the token limit"
    assert redact(text, ()) == text


def test_children_get_no_secrets() -> None:
    environ = {"HF_TOKEN": "a", "WANDB_API_KEY": "b", "AWS_SECRET_ACCESS_KEY": "c", "HOME": "/h", "MONKEY": "d"}
    assert strip_secrets(environ) == {"HOME": "/h", "MONKEY": "d"}
    assert is_secret_name("hf_token")
    assert not is_secret_name("HF_TOKEN_PATH")


def test_token_from_the_environment_or_the_file(tmp_path: Path) -> None:
    assert hub_token({"HF_HOME": str(tmp_path)}) == ""
    (tmp_path / "token").write_text("hf_file\nrest\n")
    assert hub_token({"HF_HOME": str(tmp_path)}) == "hf_file"
    assert hub_token({"HF_HOME": str(tmp_path), "HF_TOKEN": " hf_env "}) == "hf_env"
    (tmp_path / "other").symlink_to(tmp_path / "token")
    assert hub_token({"HF_TOKEN_PATH": str(tmp_path / "other")}) == ""


def test_a_token_in_a_command_line_is_told_from_an_option_about_tokens() -> None:
    own = secret_values({"MY_PASSWORD": "swordfish"})
    assert holds_token("--auth=hf_canary0123456789", own)
    assert holds_token("ftp -p swordfish", own)
    for innocent in ("--pad_token=<|endoftext|>", "--max-tokens=4096000", "tokenizer=some/model", "keyring: systemd"):
        assert not holds_token(innocent, own)
