"""A run folder is held while it is trained; test_two_processes.py does the same through the real command."""

from concurrent.futures import ThreadPoolExecutor

from atomiclm.cli import UserError
from atomiclm.tracking import RunFolder
from atomiclm.train import lock_run


def _is_refused(folder: RunFolder) -> bool:
    try:
        with lock_run(folder):
            return False
    except UserError:
        return True


def test_the_second_to_train_a_run_is_refused_until_the_first_has_ended(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with ThreadPoolExecutor(1) as other:
        with lock_run(folder):
            assert other.submit(_is_refused, folder).result(300)
        assert not other.submit(_is_refused, folder).result(300)
