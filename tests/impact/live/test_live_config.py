"""What can never work is said at once, with key, problem and remedy, and without a secret."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from ecolyzer_otel.common.errors import ConfigError
from ecolyzer_otel.impact.live.open import open_live
from ecolyzer_otel.impact.live.provider import LiveRequest
from ecolyzer_otel.impact.live.tokens import Secret, find_secret, redact

EM = {"ECOLYZER_ELECTRICITYMAPS_TOKEN": "t"}
ENTSOE = {"ECOLYZER_ENTSOE_TOKEN": "t"}
WATTTIME = {"ECOLYZER_WATTTIME_USERNAME": "u", "ECOLYZER_WATTTIME_PASSWORD": "p"}


def opened(source, zone="FR", environ=None, **options):
    given = {"key": "--grid (ECOLYZER_GRID)", "refresh": 900.0, "max_age": 21600.0, "cache": "none"}
    return open_live(LiveRequest(source=source, **{**given, "zone": zone, "environ": environ or {}, **options}))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "electricitymaps"}, ["ECOLYZER_ELECTRICITYMAPS_TOKEN", "_FILE"]),
        ({"source": "electricitymaps", "zone": "US-CA", "environ": EM}, ["US-CA", "--grid-region", "US-CAL-CISO"]),
        ({"source": "electricitymaps", "zone": "WORLD", "environ": EM}, ["WORLD", "--grid-region"]),
        ({"source": "entsoe"}, ["ECOLYZER_ENTSOE_TOKEN"]),
        ({"source": "entsoe", "zone": "US-CA", "environ": ENTSOE}, ["US-CA", "--grid-region", "EIC"]),
        ({"source": "entsoe", "zone": "GB", "environ": ENTSOE}, ["GB", "neso"]),
        ({"source": "entsoe", "region": "10YFR-RTE------D", "environ": ENTSOE}, ["10YFR-RTE------D"]),
        ({"source": "neso", "zone": "FR"}, ["Great Britain", "FR"]),
        ({"source": "neso", "zone": "GB", "region": "18"}, ["--grid-region", "RG10"]),
        ({"source": "neso", "zone": "GB", "region": "../x"}, ["--grid-region"]),
        ({"source": "rte", "zone": "BE"}, ["France", "BE"]),
        ({"source": "rte", "region": "Bretagne"}, ["--grid-region"]),
        ({"source": "watttime", "environ": WATTTIME}, ["--marginal watttime"]),
        ({"source": "watttime", "marginal": True}, ["ECOLYZER_WATTTIME_USERNAME"]),
        ({"source": "watttime", "marginal": True, "environ": {"ECOLYZER_WATTTIME_USERNAME": "u"}}, ["PASSWORD"]),
        ({"source": "watttime", "marginal": True, "environ": WATTTIME}, ["--marginal-region", "CAISO_NORTH"]),
        ({"source": "electricitymaps", "marginal": True, "environ": EM}, ["average", "watttime"]),
        ({"source": "neso", "marginal": True, "zone": "GB"}, ["average"]),
        ({"source": "rte", "marginal": True}, ["average"]),
        ({"source": "entsoe", "marginal": True, "environ": ENTSOE}, ["average"]),
        ({"source": "http://grid.example.org/now"}, ["grid.example.org", "https"]),
        ({"source": "http://10.0.0.1/now"}, ["https"]),
        ({"source": "https://user:s3cret@grid.example.org/now"}, ["grid.example.org", "ECOLYZER_GRID_TOKEN"]),
        ({"source": "https:///now"}, ["http(s) address"]),
        ({"source": "https://[::1/now"}, ["http(s) address"]),
        ({"source": "https://grid.example.org:port/"}, ["http(s) address"]),
        ({"source": "rte", "url": "http://grid.example.org"}, ["--grid-url", "https"]),
        ({"source": "rte", "url": "https://grid.example.org/?a=s3cret"}, ["--grid-url", "? or #"]),
        ({"source": "somewhere"}, ["somewhere", "electricitymaps"]),
    ],
)
def test_what_can_never_work(options, words):
    with pytest.raises(ConfigError) as caught:
        opened(**options)
    assert caught.value.remedy
    for word in (*words, "--"):
        assert word in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"source": "rte", "url": "http://localhost:8080"},
        {"source": "rte", "url": "http://[::1]:8080/proxy/"},
        {"source": "https://grid.example.org/now?zone=FR"},
        {"source": "entsoe", "zone": "US-CA", "region": "DE_LU", "environ": ENTSOE},
        {"source": "neso", "zone": "GB", "region": "GB"},
        {"source": "neso", "zone": "GB", "region": " "},
        {"source": "electricitymaps", "zone": "US", "environ": EM},
    ],
)
def test_what_may_work_is_not_refused(options):
    grid = opened(**options)
    assert grid.at(0.0) is None
    assert grid.problem is None


@pytest.mark.parametrize("token", ["two\nlines", "tab\there", "ünïcode", "x" * 5000])
def test_a_token_that_cannot_be_sent_is_not_shown(token):
    with pytest.raises(ConfigError) as caught:
        opened("electricitymaps", environ={"ECOLYZER_ELECTRICITYMAPS_TOKEN": token})
    assert caught.value.key == "ECOLYZER_ELECTRICITYMAPS_TOKEN"
    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"", "is empty"), (b"\xff\xfe", "not allowed"), (b"a\nb", "not allowed")],
)
def test_a_token_file_that_cannot_be_used(tmp_path: Path, content, problem):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=problem) as caught:
        opened("entsoe", environ={"ECOLYZER_ENTSOE_TOKEN_FILE": str(file)})
    assert caught.value.key == "ECOLYZER_ENTSOE_TOKEN_FILE"


def test_the_variable_goes_before_its_file(tmp_path: Path):
    (tmp_path / "token").write_text("from the file")
    environ = {"X": "from the variable", "X_FILE": str(tmp_path / "token")}
    assert find_secret(environ, "X").reveal() == "from the variable"
    assert find_secret({**environ, "X": " "}, "X").reveal() == "from the file"
    assert find_secret({}, "X") is None


def test_a_secret_does_not_show_itself():
    secret = Secret("s3cret", "X")
    assert "s3cret" not in f"{secret!r} {secret} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_redaction_finds_each_form_of_a_secret():
    text = "a b/c+d a%20b%2Fc%2Bd a+b%2Fc%2Bd YSBiL2MrZA== end"
    assert redact(text, [Secret("a b/c+d", "X")]) == "*** *** *** *** end"


def test_the_environment_is_the_processs_own_by_default(monkeypatch):
    monkeypatch.setitem(os.environ, "ECOLYZER_ENTSOE_TOKEN", "t")
    request = LiveRequest(source="entsoe", key="k", zone="FR", refresh=9.0, max_age=9.0, cache="none")
    assert open_live(request).source == "ENTSO-E mix"
