"""Settings come from the environment; one that can't be used is named, with what to write."""

from dataclasses import fields

import pytest

from wavegate import __version__
from wavegate.__main__ import main
from wavegate.settings import PREFIX, BadSetting, Settings


@pytest.mark.parametrize(
    ("environment", "changes"),
    [
        ({}, {}),
        ({"WAVEGATE_SOAK_FLOOR": ""}, {}),
        ({"WAVEGATE_SOAK_FLOOR": "1h30m"}, {"soak_floor": 5400.0}),
        ({"WAVEGATE_SOAK_FLOOR": "0s"}, {"soak_floor": 0.0}),
        ({"WAVEGATE_LISTEN": "127.0.0.1:9"}, {"listen": "127.0.0.1:9"}),
        ({"WAVEGATE_LEASE_NAMESPACE": "a"}, {"lease_namespace": "a"}),
        ({"WAVEGATE_LEASE_NAME": "b"}, {"lease_name": "b"}),
        ({"WAVEGATE_LEASE_DURATION": "3s"}, {"lease_duration": 3.0}),
        ({"WAVEGATE_IDENTITY": "me"}, {"identity": "me"}),
        ({"WAVEGATE_LOG_LEVEL": "debug"}, {"log_level": "debug"}),
        ({"SOAK_FLOOR": "1s", "PATH": "x"}, {}),
    ],
)
def test_each_setting_is_read_and_the_rest_keep_their_defaults(environment, changes):
    found = Settings.read(environment)
    assert found == Settings(**changes)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("SOAK_FLOOR", "180", "10m"),
        ("SOAK_FLOOR", "-5s", "10m"),
        ("SOAK_FLOOR", "soon", "10m"),
        ("LEASE_DURATION", "2s", "at least 3s"),
        ("LEASE_DURATION", "15", "10m"),
        ("LOG_LEVEL", "DEBUG", "debug, info"),
        ("LOG_LEVEL", "loud", "debug, info"),
        ("LISTEN", "8080x", "address:port"),
        ("LISTEN", "0.0.0.0:", "address:port"),
        ("LISTEN", "0.0.0.0:65536", "address:port"),
        ("LISTEN", "0.0.0.0:-1", "address:port"),
        ("LISTEN", "0.0.0.0:http", "address:port"),
    ],
)
def test_a_bad_setting_is_named_with_what_to_write(name, text, hint):
    with pytest.raises(BadSetting) as caught:
        Settings.read({f"WAVEGATE_{name}": text})
    assert f"WAVEGATE_{name}" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:8080", ("0.0.0.0", 8080)),  # noqa: S104 (only parsed)
        (":8080", ("0.0.0.0", 8080)),  # noqa: S104
        ("8080", ("0.0.0.0", 8080)),  # noqa: S104
        ("localhost:0", ("localhost", 0)),
        ("[::]:8080", ("::", 8080)),
    ],
)
def test_listen_is_an_address_and_a_port(listen, address):
    assert Settings.read({"WAVEGATE_LISTEN": listen}).address == address


def test_the_lease_is_in_the_named_namespace_or_default():
    assert Settings(lease_namespace="a").namespace() == "a"
    assert Settings().namespace() == "default"


def test_two_processes_on_a_host_have_names_of_their_own():
    assert Settings(identity="me").name() == "me"
    assert Settings().name().rpartition("-")[2].isdigit()


def test_help_lists_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "--help"])
    assert caught.value.code == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if PREFIX in line]
    for field in fields(Settings):
        (line,) = (x for x in lines if x.strip().startswith(f"{PREFIX}{field.name.upper()}:"))
        assert "Default" in line
    assert len(lines) == len(fields(Settings))


def test_a_bad_setting_ends_the_program_with_a_message_and_no_traceback(capsys, monkeypatch):
    monkeypatch.setenv("WAVEGATE_LOG_LEVEL", "loud")
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith("wavegate: WAVEGATE_LOG_LEVEL must be")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("arguments", [[], ["walk"]])
def test_an_unknown_command_says_how_to_use_it(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: wavegate" in capsys.readouterr().err
