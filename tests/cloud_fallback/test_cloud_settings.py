"""A wrong setting stops the start with one line that names it and shows no value."""

import os
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from cloud_fallback import app as app_module
from cloud_fallback.__main__ import SPARE_S, main
from cloud_fallback.errors import ConfigError
from cloud_fallback.settings import load_settings

URL = "http://127.0.0.1:9/v1"
KEYS = "k1:" + "5e" * 32


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUD_UPSTREAM_KEY", "CLOUD_REGION", "CLOUD_MODELS_FILE", "MAX_BODY_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUD_UPSTREAM_URL", URL)
    monkeypatch.setenv("FALLBACK_KEYS", KEYS)


def test_defaults() -> None:
    """Only the upstream's address must be given."""
    settings = load_settings()

    assert settings.upstream_url == URL
    assert settings.upstream_key is None
    assert settings.region == "local"
    assert settings.max_body_bytes == 4 * 1024 * 1024


@pytest.mark.parametrize("name", ["CLOUD_MAX_BODY_BYTES", "MAX_BODY_BYTES"])
def test_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values come from the environment; space around the key, as from a file, does not matter."""
    monkeypatch.setenv("CLOUD_UPSTREAM_URL", "https://api.openai.com/v1/")
    monkeypatch.setenv("CLOUD_UPSTREAM_KEY", " sk-1\n")
    monkeypatch.setenv("CLOUD_RUN_JOB", "set by Google")
    monkeypatch.setenv(name, "10")

    settings = load_settings()

    assert settings.upstream_url == "https://api.openai.com/v1"
    assert settings.upstream_key is not None
    assert settings.upstream_key.get_secret_value() == "sk-1"
    assert settings.max_body_bytes == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLOUD_TYPO", "1"),
        ("CLOUD_UPSTREAM_URL", "ftp://secret-host"),
        ("CLOUD_UPSTREAM_URL", "http://secret:port"),
        ("CLOUD_UPSTREAM_URL", "https://secret:secret@host/v1"),
        ("CLOUD_UPSTREAM_KEY", "secret with spaces"),
        ("CLOUD_REGION", "secret region"),
        ("CLOUD_STREAM_IDLE_S", "0"),
        ("CLOUD_ATTEMPTS", "many"),
        ("CLOUD_MAX_BODY_BYTES", "-1"),
    ],
)
def test_wrong(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, the variable's name, never its value."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        load_settings()

    line = str(caught.value)
    assert name in line
    assert "\n" not in line
    assert "secret" not in line


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The upstream's address has no default, unless no model needs it."""
    monkeypatch.delenv("CLOUD_UPSTREAM_URL")

    with pytest.raises(ConfigError, match="CLOUD_UPSTREAM_URL: must be set"):
        app_module.create_app()


@pytest.mark.parametrize("keys", ["", "secret", f"secret:{'00' * 31}"], ids=["empty", "no key", "short"])
def test_no_keys(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys that can be used the service does not start, and the line does not tell them."""
    monkeypatch.setenv("FALLBACK_KEYS", keys)

    with pytest.raises(ConfigError, match="FALLBACK_KEYS: ") as caught:
        load_settings()

    assert "00" not in str(caught.value)


def test_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """`open` has to be said by hand; then no keys are needed."""
    monkeypatch.delenv("FALLBACK_KEYS")
    monkeypatch.setenv("FALLBACK_AUTH", "open")

    assert load_settings().signing_keys == ()


def test_empty_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key is no key."""
    monkeypatch.setenv("CLOUD_UPSTREAM_KEY", "")

    assert load_settings().upstream_key is None


def test_app_attribute() -> None:
    """`uvicorn cloud_fallback.app:app` works as well as `--factory`; other names are not made up."""
    assert app_module.app.title == "Nearside cloud fallback"
    with pytest.raises(AttributeError):
        _ = app_module.nothing


def test_command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m cloud_fallback` hands its arguments to uvicorn; --help shows an example."""
    started: dict[str, object] = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: started.update(options))
    monkeypatch.setattr(os, "environ", os.environ.copy())

    main(["--host", "0.0.0.0", "--port", "0", "--drain-s", "3"])
    with pytest.raises(SystemExit):
        main(["--help"])

    assert (started["host"], started["port"], started["timeout_graceful_shutdown"]) == ("0.0.0.0", 0, 3 + SPARE_S)
    assert "example:" in capsys.readouterr().out


def test_command_line_for_several_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are told how many they are, and where they count together: where it was said, or in a new folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    monkeypatch.setattr(os, "environ", environment)
    folders = []

    def run(app: str, **options: Any) -> None:
        folders.append(Path(environment["PROMETHEUS_MULTIPROC_DIR"]))
        assert folders[-1].is_dir()

    monkeypatch.setattr(uvicorn, "run", run)

    main(["--workers", "2"])
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    main(["--workers", "3"])

    assert environment["WEB_CONCURRENCY"] == "3"
    assert folders[1:] == [tmp_path]
    assert not folders[0].exists()
    assert tmp_path.exists()
