"""Disks that fill up, runs that die, files that rot."""

import errno
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import jax
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.checkpoints.fixtures import Recorder, State, abstract, assert_same, make_state
from trainer.checkpoints import manifest, places
from trainer.errors import StorageError, UserError

STATE_FILES = 8
"""Fewer than this would mean that the loop over a checkpoint's files met nothing."""


@contextmanager
def files_of_at_most(size):
    """The operating system refuses to let any file grow beyond this, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestFullDisk:
    @pytest.mark.parametrize("asynchronous", [True, False])
    def test_the_system_refuses_to_write(self, recorder, asynchronous):
        checkpoints = recorder.save(10, asynchronous=asynchronous)
        # Random numbers do not compress. One array: of several, Orbax abandons the others with noise on stderr.
        state = State(jax.random.normal(jax.random.key(0), (256, 1024)), (), ())
        with (
            files_of_at_most(100_000),
            pytest.raises(StorageError, match=r"step 20 could not be saved.*File too large"),
        ):
            self.save_and_wait(checkpoints, state)
        self.assert_only_10_is_left(recorder, checkpoints)

    def test_a_state_that_will_not_fit_is_not_begun(self, recorder, monkeypatch, capfd):
        checkpoints = recorder.save(10)
        usage = shutil.disk_usage(recorder.directory)._replace(free=500)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda _: usage)
            with pytest.raises(StorageError, match=r"No space left for its [1-9],\d\d\d bytes \(500 bytes are free"):
                self.save_and_wait(checkpoints, make_state(20))
        self.assert_only_10_is_left(recorder, checkpoints)
        assert capfd.readouterr().err == ""

    def test_what_orbax_repeats_when_it_is_closed_is_no_news(self, recorder, monkeypatch):
        checkpoints = recorder.save(10)

        def fail(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("orbax.checkpoint.AsyncCheckpointer.close", fail)
            checkpoints.close()

    def test_no_space_is_left_when_the_commit_is_written(self, recorder, monkeypatch):
        checkpoints = recorder.save(10)

        def fail(folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

        with monkeypatch.context() as patch:
            patch.setattr(manifest, "write", fail)
            checkpoints.save(make_state(20), 20, {})
            with pytest.raises(StorageError, match=r"No space left on device.*are intact \(10\).*keep_last"):
                checkpoints.save(make_state(30), 30, {})
        self.assert_only_10_is_left(recorder, checkpoints)

    def save_and_wait(self, checkpoints, state):
        checkpoints.save(state, 20, {})
        checkpoints.wait()

    def assert_only_10_is_left(self, recorder, checkpoints):
        assert recorder.told() == [("failed", 20)]
        assert recorder.names() == ["10"]
        self.save_and_wait(checkpoints, make_state(20))
        assert recorder.told() == [("failed", 20), ("committed", 20)]
        assert_same(checkpoints.restore(abstract(make_state(0))).state, make_state(20))


class TestUnwritableFolder:
    def test_a_path_through_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"cannot be written to '.*file/checkpoints' \(Not a directory\)"):
            Recorder(tmp_path / "file" / "checkpoints").open()

    def test_a_folder_without_permission(self, tmp_path, monkeypatch):
        def refuse(**_):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        with pytest.raises(UserError, match=r"Permission denied.*checkpoint\.directory"):
            Recorder(tmp_path).open()

    def test_one_that_became_read_only(self, recorder, monkeypatch):
        recorder.save(10, 20)
        (recorder.directory / "20" / manifest.NAME).unlink()

        def refuse(*_):
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(places, "rename", refuse)
        with pytest.raises(StorageError, match=r"20 could not be renamed to \*\.corrupt: Read-only file system"):
            recorder.open().restore(abstract(make_state(0)))

    def test_an_address(self):
        with pytest.raises(UserError, match=r"checkpoints go to folders and to gs:// addresses"):
            Recorder(Path("s3://bucket/run")).open()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a checkpoint, its files' names and contents."""
    recorder = Recorder(tmp_path_factory.mktemp("saved"))
    recorder.save(10)
    recorder.close()
    folder = epath.Path(recorder.directory / "10")
    return folder, {name: (folder / name).read_bytes() for name in sorted(places.files(folder))}


class TestDamage:
    def test_any_damaged_file_is_noticed_and_the_one_before_is_restored(self, recorder, tmp_path):
        recorder.save(10, 20)
        recorder.close()
        sound = tmp_path / "sound"
        recorder.directory.rename(sound)
        names = [path.relative_to(sound) for path in sorted((sound / "20").rglob("*")) if path.is_file()]
        assert len(names) > STATE_FILES
        for number, name in enumerate(names):
            damage = (self.flip_a_byte, self.truncate, Path.unlink)[number % 3]
            shutil.copytree(sound, recorder.directory)
            damage(recorder.directory / name)
            recorder.events.clear()
            checkpoints = recorder.open()
            restored = checkpoints.restore(abstract(make_state(0)))
            checkpoints.close()
            assert recorder.told() == [("corrupt", 20), ("restored", 10)], (name, damage)
            assert_same(restored.state, make_state(10))
            assert recorder.names() == ["10", "20.corrupt"]
            shutil.rmtree(recorder.directory)

    @given(data=st.data())
    def test_a_flipped_bit_or_a_shorter_or_missing_file_is_damage(self, saved, data):
        folder, contents = saved
        name = data.draw(st.sampled_from(sorted(contents)))
        content = contents[name]
        place = data.draw(st.integers(0, len(content) - 1))
        flipped = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
        path = Path(folder / name)
        manifest.verify(folder)
        try:
            for damaged in (flipped, content[:place]):
                path.write_bytes(damaged)
                with pytest.raises(manifest.DamagedCheckpoint):
                    manifest.verify(folder)
            path.unlink()
            with pytest.raises(manifest.DamagedCheckpoint):
                manifest.verify(folder)
        finally:
            path.write_bytes(content)

    @staticmethod
    def flip_a_byte(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x01
        path.write_bytes(content)

    @staticmethod
    def truncate(path):
        path.write_bytes(path.read_bytes()[:-1])

    def test_the_event_says_what_is_damaged(self, recorder):
        recorder.save(10, 20)
        (recorder.directory / "20" / "state" / "_METADATA").unlink()
        recorder.open().restore(abstract(make_state(0)))
        assert recorder.events[0].message == (
            "the checkpoint of step 20 is unusable: state/_METADATA is missing; set aside as 20.corrupt"
        )

    def test_a_damaged_step_can_be_saved_again_and_again(self, recorder):
        recorder.save(10, 20)
        for _ in range(2):
            (recorder.directory / "20" / "state" / "manifest.ocdbt").unlink()
            checkpoints = recorder.open()
            assert checkpoints.restore(abstract(make_state(0))).step == 10
            checkpoints.save(make_state(20), 20, {})
            checkpoints.wait()
            assert checkpoints.committed_steps() == [10, 20]
        assert recorder.names() == ["10", "20", "20.corrupt", "20.corrupt.2"]

    def test_with_no_sound_one_the_run_starts_over_only_when_started_again(self, recorder):
        recorder.save(10, 20)
        for step in ("10", "20"):
            (recorder.directory / step / manifest.NAME).unlink()
        with pytest.raises(UserError, match=r"none of the committed.*come to step 20"):
            recorder.open().restore(abstract(make_state(0)))
        assert recorder.told() == [("corrupt", 20), ("corrupt", 10)]
        assert recorder.open().restore(abstract(make_state(0))) is None

    def test_a_chosen_step_is_not_replaced_by_another(self, recorder):
        recorder.save(10, 20)
        (recorder.directory / "20" / manifest.NAME).unlink()
        with pytest.raises(UserError, match=r"step 20.*committed steps \(10\)"):
            recorder.open(restore=20).restore(abstract(make_state(0)))


class TestKilledRuns:
    def test_what_was_half_written_is_ignored_and_removed(self, recorder):
        recorder.save(10)
        half_written = recorder.directory / "20.orbax-checkpoint-tmp"
        shutil.copytree(recorder.directory / "10", half_written)
        half_deleted = recorder.directory / "5.deleting"
        shutil.copytree(recorder.directory / "10", half_deleted)
        (recorder.directory / "notes.txt").write_text("not ours")
        checkpoints = recorder.open()
        assert checkpoints.committed_steps() == [10]
        assert checkpoints.restore(abstract(make_state(0))).step == 10
        assert recorder.names() == ["10", "notes.txt"]

    def test_a_folder_without_the_commit_marker_is_set_aside(self, recorder):
        recorder.save(10, 20)
        (recorder.directory / "20" / "commit_success.txt").unlink()
        assert recorder.open().restore(abstract(make_state(0))).step == 10
        assert recorder.told() == [("corrupt", 20), ("restored", 10)]
        assert "never committed" in recorder.events[0].message
        assert recorder.events[1].committed == [10]

    def test_deleting_is_never_half_visible(self, recorder, monkeypatch):
        """A run killed while it deletes a checkpoint leaves nothing that looks committed."""
        checkpoints = recorder.save(10, keep_last=1)

        def die(path):
            raise OSError(errno.EIO, "killed here")

        with monkeypatch.context() as patch:
            patch.setattr("trainer.checkpoints.places.shutil.rmtree", die)
            checkpoints.save(make_state(20), 20, {})
            checkpoints.wait()
        assert recorder.names() == ["10.deleting", "20"]
        assert recorder.open().committed_steps() == [20]
        assert recorder.names() == ["20"]
