"""One private repository of the Hub, through huggingface_hub: what it holds, a commit, a file; failures in our words.

The token goes to the Hub's endpoint and nowhere else: it is never read from a saved login behind our back, stands in no
message, and is not sent over plain http but to this machine.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from llamahome_tui.config.secrets import hub_token, redact
from llamahome_tui.errors import AuthError, ConfigError, HubError, IntegrityError, LlamaHomeError, ResourceError

ENDPOINT: Final = "https://huggingface.co"
QUIET_S: Final = 60.0  # a connection that moves nothing for so long is broken; the library waits for ever
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_MOST_FILES: Final = 100_000
_HOME: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_QUERY: Final = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")  # of a signed address


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a repository, told by its `sha256` where it lies in large storage, else by `blob`, git's sha1 of it."""

    size: int
    sha256: str
    blob: str


@dataclass(frozen=True, slots=True)
class Tree:
    """What a repository holds at one commit, by path."""

    commit: str
    private: bool
    files: Mapping[str, Entry]


class Repo:
    """A model repository. Every method raises AuthError, HubError, ResourceError or IntegrityError."""

    def __init__(self, name: str, token: str, endpoint: str = ENDPOINT, *, quiet_s: float = QUIET_S) -> None:
        from huggingface_hub import HfApi

        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings name signed addresses
        self.name = name
        self._token = token
        self._api = HfApi(endpoint=endpoint, token=token)
        self._quiet_s = quiet_s

    def tree(self) -> Tree | None:
        """What is there now; None where there is no such repository."""
        from huggingface_hub.hf_api import RepoFile

        with self._asking(missing=True) as there:
            info = self._api.model_info(self.name, timeout=self._quiet_s)  # None is for ever there
            commit = str(info.sha)
            if not _COMMIT.fullmatch(commit):
                raise IntegrityError(f"the Hub names no commit of {self.name}")
            listed = self._api.list_repo_tree(self.name, recursive=True, revision=commit)
            files = {
                item.path: Entry(item.size, item.lfs.sha256 if item.lfs else "", item.blob_id)
                for item in itertools.islice(listed, _MOST_FILES)
                if isinstance(item, RepoFile)
            }
            there.append(Tree(commit, bool(info.private), files))
        return there[0] if there else None

    def create(self) -> None:
        """Make it, private; one that is there already stays as it is."""
        with self._asking():
            self._api.create_repo(self.name, private=True, exist_ok=True)

    def commit(self, message: str, add: Mapping[str, Path], delete: Sequence[str]) -> None:
        """Add files and take folders away, all in one commit or nothing of it."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with self._asking():
            self._api.create_commit(
                self.name,
                [
                    *(CommitOperationAdd(path, str(source)) for path, source in add.items()),
                    *(CommitOperationDelete(path, is_folder=True) for path in delete),
                ],
                commit_message=message,
                num_threads=2,
            )

    def fetch(self, path: str, commit: str, into: Path) -> Path:
        """Download a file of a commit to `into`/`path`; what it holds is for the caller to check."""
        with self._asking():
            return Path(self._api.hf_hub_download(self.name, path, revision=commit, local_dir=into))

    @contextlib.contextmanager
    def _asking(self, *, missing: bool = False) -> Iterator[list[Any]]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils._http import get_session

        get_session().timeout = self._quiet_s
        try:
            yield []
        except (HfHubHTTPError, httpx2.HTTPError, OSError, ValueError, RuntimeError) as error:
            if missing and _status(error) == 404:
                return
            raise self._in_words(error) from None

    def _in_words(self, error: BaseException) -> LlamaHomeError:
        status = _status(error)
        chain = list(_chain(error))
        if status == 401:
            return AuthError(
                f"the Hub does not take the token for {self.name} (401)",
                code="hub.token",
                hint="set one that may write: export HF_TOKEN=..., or: hf auth login",
            )
        if status == 403:
            return AuthError(
                f"the token has no right to this in {self.name} (403)",
                code="hub.forbidden",
                hint="set one that may write: export HF_TOKEN=..., or: hf auth login",
            )
        if status:
            what = {404: "has no", 429: "asks to come later, for"}.get(status, "fails for")
            return HubError(f"the Hub {what} {self.name} ({status})", code=f"hub.{status}", hint=_LATER)
        if any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in chain):
            return ResourceError("no room on the disk", code="disk.full", hint="see: llamahome --batch cache usage")
        if any("Consistency check failed" in str(one) for one in chain):
            return IntegrityError(f"a file of {self.name} has not the bytes that the Hub promised")
        if any(type(one).__name__ == "OfflineModeIsEnabled" for one in chain):
            return HubError("HF_HUB_OFFLINE is set", code="hub.offline", hint="unset it: unset HF_HUB_OFFLINE")
        last = chain[-1]
        words = redact(_QUERY.sub(r"\1", str(last)), (self._token,)).strip().split("\n", 1)[0][:200]
        why = f"{type(last).__name__}: {words}" if words else type(last).__name__
        return HubError(f"the Hub can't be reached for {self.name}: {why}", code="hub.unreachable", hint=_LATER)


_LATER: Final = "try again later: llamahome --batch train start SPEC --or-resume"


def open_repo(name: str, environ: Mapping[str, str], token: str = "") -> Repo:
    """The repository with the token and the endpoint of an environment. Raises what `access` does."""
    return Repo(name, *access(environ, token))


def access(environ: Mapping[str, str], token: str = "") -> tuple[str, str]:
    """Token and endpoint. Raises ConfigError where there is no token, or none to be sent; the network is not asked."""
    token = token or hub_token(environ)
    endpoint = (environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    if not token:
        raise ConfigError(
            "the Hub needs a token that may write, and there is none",
            code="hub.no_token",
            hint="set it: export HF_TOKEN=..., or: hf auth login",
        )
    where = urlsplit(endpoint)
    if where.scheme != "https" and not (where.scheme == "http" and where.hostname in _HOME):
        raise ConfigError(
            "HF_ENDPOINT is no https address, and a token would go over the network for all to read",
            code="hub.endpoint",
            hint="use the Hub itself: unset HF_ENDPOINT",
        )
    return token, endpoint


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    """The status that the Hub answered with, 0 where it did not answer."""
    for one in _chain(error):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return 0
