"""What only PostgreSQL has: several writers, lost connections, partitions, a schema to bring up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.core.book import StoreSettings
from gateway.core.events import Event, Posted
from gateway.core.units import AMOUNT_MAX
from gateway.journal.reader import Reader
from gateway.journal.recovery import recover
from gateway.journal.writer import Journal
from gateway.store import postgres
from gateway.store.backend import backend_of
from gateway.store.base import StoreError, StoreUnavailable
from gateway.store.database import DatabaseError
from gateway.store.postgres import PgDatabase, translate
from gateway.store.postgres_sink import Columns, PostgresSink, copy_rows
from gateway.usage.audit import audit
from tests.journal.making import WEEK_US, event, settings, shipping, write
from tests.support.stores import postgres_url, use_kind
from tests.support.until import until


@pytest.fixture(autouse=True)
def kind() -> Iterator[None]:
    before = use_kind("postgres")
    yield
    use_kind(before)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return postgres_url(tmp_path)


@pytest.fixture
def prompt(url: str) -> Iterator[PgDatabase]:
    """Somebody else's connection."""
    postgres.migrate(made := postgres.connect(url))
    yield made
    made.close()


def journal_of(home: Path, sink: PostgresSink) -> closing[Journal]:
    return closing(Journal.open(settings(home), sink.journal_id, sink.applied_seq + 1))


def ship(home: Path, url: str, journal_id: str, events: list[Event]) -> None:
    sink = PostgresSink(url, journal_id)
    with journal_of(home, sink) as journal:
        for made in events:
            write(journal, made)
    recover(str(home / "journal"), sink)
    sink.close()


# -- writers ----------------------------------------------------------------------


def test_writers_at_once_add_up(tmp_path: Path, url: str, prompt: PgDatabase) -> None:
    writers = [
        threading.Thread(
            target=ship,
            args=(
                tmp_path / f"w{number}",
                url,
                f"journal-{number}",
                [event(n, id=f"{number}-{n}") for n in range(400)],
            ),
        )
        for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert prompt.execute("SELECT count(*), count(DISTINCT id) FROM events").fetchall() == [
        (1600, 1600)
    ]
    assert prompt.execute("SELECT count(*) FROM labels").fetchall() == [(30,)]
    prompt.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    report = audit(prompt)
    assert report.is_clean, report.differences
    assert report.events == 1600


def test_each_writer_goes_on_where_it_was(tmp_path: Path, url: str) -> None:
    for _ in range(2):
        for name in ("a", "b"):
            ship(tmp_path / name, url, name, [event(1)])
    sink = PostgresSink(url, "a")
    assert sink.applied_seq == 4  # each event is opened and closed
    sink.close()


def test_a_journal_has_one_writer(tmp_path: Path, url: str) -> None:
    first, second = PostgresSink(url, "a"), PostgresSink(url, "a")
    with journal_of(tmp_path, first) as journal:
        write(journal, event(1))
    for sink in (first, second):
        with closing(Reader(tmp_path / "journal", "a", 0)) as reader:
            if sink is first:
                assert sink.apply(reader.batches(10)) == 1
            else:
                with pytest.raises(StoreError, match="another process"):
                    sink.apply(reader.batches(10))
        sink.close()


# -- connections --------------------------------------------------------------------


def cut(prompt: PgDatabase, name: str = "tallygate") -> None:
    """End the connections of this name, as a restart of the server would."""
    sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = ?"
    assert prompt.execute(f"{sql} AND pid != pg_backend_pid()", (name,)).fetchall()[0][0] >= 1


def test_shipping_goes_on_after_a_lost_connection(
    tmp_path: Path, url: str, prompt: PgDatabase
) -> None:
    sink = PostgresSink(url, "a")
    prompt.execute("SET application_name = 'prompt'")
    with journal_of(tmp_path, sink) as journal, shipping(tmp_path, journal, sink) as shipper:
        for number in range(300):
            write(journal, event(number))
            if number % 100 == 50:
                shipper.reached(journal.last_seq).result(10)
                cut(prompt)
        until(lambda: shipper.shipped_seq, lambda seq: seq == 600, what="all of it")
        assert shipper.lag().failures_total >= 1
    sink.close()
    assert prompt.execute("SELECT count(*), sum(amount) FROM charges").fetchall() == [
        (300, sum(1 + n % 4 for n in range(300)))
    ]


def test_a_lost_reply_to_a_commit_writes_nothing_twice(
    tmp_path: Path, url: str, prompt: PgDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = PostgresSink(url, "a")
    execute = PgDatabase.execute
    lost = []

    def lose(self: PgDatabase, sql: str, values: object = (), /) -> object:
        found = execute(self, sql, values)
        if sql == "COMMIT" and not lost and threading.current_thread().name == "store-writer":
            lost.append(sql)
            self.connection.close()
            raise DatabaseError("server closed the connection unexpectedly")
        return found

    with journal_of(tmp_path, sink) as journal:
        for number in range(50):
            write(journal, event(number))
        monkeypatch.setattr(PgDatabase, "execute", lose)
        with shipping(tmp_path, journal, sink) as shipper:
            until(lambda: shipper.shipped_seq, lambda seq: seq == 100, what="all of it")
    sink.close()
    assert lost
    assert prompt.execute("SELECT count(*) FROM events").fetchall() == [(50,)]
    assert prompt.execute("SELECT sum(used) FROM balances").fetchall() == [
        (sum(1 + n % 4 for n in range(50)),)
    ]


def test_a_reader_makes_its_connection_anew(url: str, prompt: PgDatabase) -> None:
    prompt.execute("SET application_name = 'prompt'")
    store = postgres.PostgresStore(url)
    assert store.account("a") is None
    cut(prompt)
    assert store.account("a") is None  # asked once more, on a new connection
    store.close()


def test_no_question_waits_for_ever(url: str, prompt: PgDatabase) -> None:
    prompt.execute("BEGIN")
    prompt.execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
    store = postgres.PostgresStore(url, statement_timeout_s=0.2)
    with pytest.raises(StoreUnavailable, match="statement timeout"):
        store.account("a")
    prompt.execute("ROLLBACK")
    assert store.account("a") is None
    store.close()


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://ada:secret@127.0.0.1:1/shop"
    backend = backend_of(StoreSettings("", url))
    assert backend.where == "127.0.0.1:1/shop"
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/shop") as caught:
        backend.open_sink(str(tmp_path))
    assert "secret" not in str(caught.value)


# -- rows ---------------------------------------------------------------------------


def test_each_month_has_its_partition(tmp_path: Path, url: str, prompt: PgDatabase) -> None:
    midnight_us = 1_764_547_200_000_000  # December 2025
    times = (midnight_us - 1, midnight_us, midnight_us + 40 * 86_400_000_000)
    ship(tmp_path, url, "a", [event(n, time_us=time_us) for n, time_us in enumerate(times)])
    sql = "SELECT DISTINCT tableoid::regclass::text FROM {} ORDER BY 1"
    for table in ("events", "charges"):
        names = [row[0].rpartition(".")[2] for row in prompt.execute(sql.format(table)).fetchall()]
        assert names == [f"{table}_2025_11", f"{table}_2025_12", f"{table}_2026_01"]


def test_figures_are_exact_and_never_fractions(
    tmp_path: Path, url: str, prompt: PgDatabase
) -> None:
    large = [event(n, charges=(Posted("coins", AMOUNT_MAX, WEEK_US),)) for n in range(3)]
    ship(
        tmp_path,
        url,
        "a",
        [event(n, account="a", charges=made.charges) for n, made in enumerate(large)],
    )
    (total,) = prompt.execute("SELECT sum(amount) FROM charges").fetchall()[0]
    assert (total, type(total)) == (3 * AMOUNT_MAX, int)
    with pytest.raises(DatabaseError, match="expected an integer"):
        prompt.execute("INSERT INTO balances VALUES ('a', 'm', 0, '', ?)", (1.5,))


@pytest.mark.parametrize(
    "text", ["", "\\N", "\\.", "a\tb", "a\nb", "a\rb", "a\\tb", "\\", "ä€😀", "NULL", "\x7f\x1f"]
)
def test_a_text_is_copied_as_it_is(prompt: PgDatabase, text: str) -> None:
    prompt.execute("CREATE TEMP TABLE copied (n BIGINT, a TEXT, b TEXT)")
    copy_rows(prompt, Columns("copied", "n:d a:s b:s"), [2**53, text, "b", 1, "a", text])
    rows = prompt.execute("SELECT n, a, b FROM copied ORDER BY n").fetchall()
    assert rows == [(1, "a", text), (2**53, text, "b")]


def test_a_text_that_looks_like_a_statement_is_a_text(prompt: PgDatabase) -> None:
    texts = ("'; DROP TABLE accounts; --", "%s %(a)s ? :name ?1", "\\'", 'a"b', "%")
    for text in texts:
        assert prompt.execute("SELECT ?, ?", (text, 5)).fetchall() == [(text, 5)]
        assert prompt.execute("SELECT ?1, ?1", (text,)).fetchall() == [(text, text)]
        assert prompt.execute("SELECT :a WHERE :b > 1 % 2", {"a": text, "b": 2}).fetchall() == [
            (text,)
        ]


@pytest.mark.parametrize(
    ("sql", "translated"),
    [
        ("SELECT l.user, user FROM labels l", 'SELECT l.user, "user" FROM labels l'),
        ("SELECT x % 5, ?", "SELECT x %% 5, %s"),
        ("SELECT ?2, ?1", "SELECT %(p2)s, %(p1)s"),
        ("SELECT a::bigint, :a", "SELECT a::bigint, %(a)s"),
        ("FROM meters CROSS JOIN balances b ON", "FROM meters JOIN balances b ON"),
    ],
)
def test_translation(sql: str, translated: str) -> None:
    assert translate(sql)[0] == translated


# -- the schema -----------------------------------------------------------------------


def test_migrations_are_applied_once_by_whoever_is_first(url: str) -> None:
    applied: list[int] = []

    def bring_up() -> None:
        database = postgres.connect(url)
        applied.append(len(postgres.migrate(database)))
        database.close()

    threads = [threading.Thread(target=bring_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [0, 0, 0, len(list(postgres.MIGRATIONS.glob("*.sql")))]


def test_a_newer_schema_is_refused(url: str, prompt: PgDatabase) -> None:
    prompt.execute("INSERT INTO schema_version (version) VALUES (99)")
    with pytest.raises(StoreError, match="newer tallygate"):
        PostgresSink(url, "a")
