"""Outside training a signal ends the command, inside it is noted first; the status says whether to try again."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from cli import heed_signals
from omegaconf.errors import ConfigKeyError

from atomiclm.config.app import deferred, run_app, stoppable
from atomiclm.config.command_line import composing
from atomiclm.config.errors import ConfigError, Fault, Stopped

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handled():
    """Whoever runs the tests may have some ignored, as `nohup` does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ALL)
def test_outside_training_the_command_ends_where_it_stands(number):
    before = signal.getsignal(number)
    with stoppable(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.number == number
    assert stopped.value.status == (130 if number == signal.SIGINT else 75)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", ALL)
def test_inside_the_first_is_noted_and_the_second_acts(number):
    with stoppable():
        with deferred() as request:
            assert not request
            os.kill(os.getpid(), number)
            assert request
            assert request.signal == number
            assert request.at is not None
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), number)


def test_the_third_ends_the_process_as_a_kill_would():
    code = """
import os, signal
from atomiclm.config.errors import Stopped
from atomiclm.config.app import deferred
with deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except Stopped:
        os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (75, "")


def test_one_that_comes_while_a_finalizer_runs_is_not_lost():
    """Python drops what is raised there, in a callback of C code too; LLVM calls some while kernels are compiled."""

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(3):  # it is raised between two instructions
                pass

    def work():
        Finalized()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.001)

    with stoppable(), pytest.raises(Stopped):
        work()


def test_what_else_is_dropped_there_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Finalized:
        def __del__(self):
            raise KeyError("lost")

    with stoppable():
        Finalized()
    assert [type(each.exc_value) for each in told] == [KeyError]
    assert sys.unraisablehook == told.append


@pytest.mark.slow
def test_asked_again_while_it_ends_the_status_stays():
    """A scheduler asks every process of a job, and some of them twice."""
    code = """
import atexit, os, signal, time
from atomiclm.config.app import run_app
def train(config):
    atexit.register(time.sleep, 2)
    os.kill(os.getpid(), signal.SIGTERM)
run_app(train, works=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals)
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == "checking the configuration\n"
        said = process.stderr.readline()
        assert said == "stopped by SIGTERM; the same command resumes\n", said + process.stderr.read()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 75


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable(), deferred() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not request
    finally:
        signal.signal(signal.SIGHUP, before)


def test_of_two_runs_in_one_process_each_has_its_own_request():
    with stoppable():
        with deferred() as first:
            pass
        with deferred() as second:
            os.kill(os.getpid(), signal.SIGTERM)
        assert not first
        assert second


def test_a_thread_that_cannot_take_signals_goes_without():
    found = []

    def work():
        with deferred() as request:
            found.append(bool(request))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_it_survives_the_way_between_processes():
    again = pickle.loads(pickle.dumps(Stopped(signal.SIGUSR1)))
    assert (again.number, again.status) == (signal.SIGUSR1, 75)


def _trip(how):
    """What OmegaConf leaves when a signal comes while it sets a node."""
    try:
        raise Stopped(signal.SIGTERM)
    except Stopped as stopped:
        if how == "cause":
            raise ConfigError([Fault("config", "cannot be composed")]) from KeyError(stopped)
        if how == "wrapped":
            try:
                raise AttributeError("half set")
            except AttributeError as error:
                raise ConfigKeyError("half set") from error
        raise AssertionError("half set") from None


@pytest.mark.parametrize("how", ["cause", "wrapped", "bare"])
def test_a_signal_that_omegaconf_trips_over_while_it_merges_is_told_as_one(how):
    with pytest.raises(Stopped) as stopped, composing([]):
        _trip(how)
    assert stopped.value.number == signal.SIGTERM


def test_what_fails_while_it_composes_for_another_reason_stays_what_it_is():
    with pytest.raises(AssertionError, match="alone"), composing([]):
        raise AssertionError("alone")


def _ended(monkeypatch, capsys, task):
    monkeypatch.setattr(sys, "argv", ["train", "tokenizer=bytes"])
    task.__name__ = "train"
    with pytest.raises(SystemExit) as ended:
        run_app(task, works=False)
    return ended.value.code, capsys.readouterr().err


def test_the_command_reports_a_signal_that_comes_while_it_merges(monkeypatch, capsys):
    monkeypatch.setattr("atomiclm.config.app.compose_all", lambda *_: _trip("bare"))
    told = (75, "checking the configuration\nstopped by SIGTERM; the same command resumes\n")
    assert _ended(monkeypatch, capsys, lambda config: None) == told


def test_what_fails_while_a_run_stops_is_not_taken_for_the_signal(monkeypatch, capsys):
    def task(config):
        try:
            raise Stopped(signal.SIGTERM)
        finally:
            raise OSError(28, "No space left on device", "checkpoint")

    status, told = _ended(monkeypatch, capsys, task)
    assert status == 1
    assert "No space left on device" in told
