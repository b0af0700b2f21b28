from hypothesis import given, settings
from hypothesis import strategies as st

from service.storage import LogFilter, Store
from service.storage.logs import LINE_CHARACTERS
from tests.service.plane import line
from tests.service.records import NOW, report, running


def write(store, seq, *texts):
    store.store_report("j1", report(*(line(text) for text in texts), seq=seq), NOW)


def test_the_oldest_lines_go_and_numbers_keep_rising(store):
    running(store)
    for seq in range(1, 21):  # about 16 kB of hardly compressible text each
        write(store, seq, *(f"{seq}:{n}:{hash((seq, n)) ** 7:x}" for n in range(150)))
    lines, last_id = store.log("j1", LogFilter(limit=10_000))
    assert last_id == 3000
    assert lines[0].id > 1
    assert [one.id for one in lines] == list(range(lines[0].id, 3001))
    assert lines[-1].message.startswith("20:149:")


def test_a_very_long_line_is_cut(store):
    running(store)
    write(store, 1, "x" * (LINE_CHARACTERS + 5), "after")
    (long, after), _ = store.log("j1", LogFilter())
    assert long.message == "x" * LINE_CHARACTERS + "… (5 more characters)"
    assert after.message == "after"


@settings(max_examples=10)
@given(batches=st.lists(st.lists(st.text(max_size=50), max_size=5), max_size=6), limit=st.integers(1, 7))
def test_reading_on_from_the_last_id_gives_every_line_once(tmp_path_factory, batches, limit):
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('logs') / 'x.sqlite3'}")
    running(store)
    for seq, texts in enumerate(batches, start=1):
        write(store, seq, *texts)
    found, after = [], 0
    while (page := store.log("j1", LogFilter(after=after, limit=limit)))[0]:
        lines, after = page
        found += [one.message for one in lines]
    assert found == [text for texts in batches for text in texts]
    store.close()
