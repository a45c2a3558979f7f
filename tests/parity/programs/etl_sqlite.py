"""An ETL into a database file by relative path, with upserts, transactions and a report."""

import csv
import io
import sqlite3
from contextlib import closing

from pipedeco import component, pipeline, value

DATABASE = "warehouse.db"
ROWS = "id,name,qty\n1,bolt,5\n2,nut,x\n3,gear,7\n1,bolt,9\n"
SCHEMA = "create table if not exists stock (id integer primary key, name text, qty integer)"


def connect():
    connection = sqlite3.connect(DATABASE)
    connection.row_factory = sqlite3.Row
    return connection


@component
def extract(text):
    return list(csv.DictReader(io.StringIO(text)))


@component
def transform(rows):
    good, bad = [], []
    for row in rows:
        (good if row["qty"].isdigit() else bad).append((int(row["id"]), row["name"], row["qty"]))
    print(f"{len(good)} good, {len(bad)} bad")
    return {"good": good, "bad": bad}


@component
def load(rows):
    with closing(connect()) as connection, connection:
        connection.execute(SCHEMA)
        connection.executemany(
            "insert into stock values (?, ?, ?) on conflict (id) do update set qty = excluded.qty",
            rows,
        )
        return connection.total_changes


@component
def report(changes):
    with closing(connect()) as connection:
        found = connection.execute("select name, qty from stock order by id").fetchall()
    return changes, [dict(row) for row in found]


@component
def violate(changes):
    with closing(connect()) as connection:
        connection.execute("insert into stock values (1, 'again', 0)")


@pipeline
def etl():
    changes = load(transform(extract(ROWS))["good"])
    changed, rows = report(changes)
    print(f"{changed + 0} changes")
    try:
        value(violate(changes))
    except sqlite3.IntegrityError as error:
        print(error, error.sqlite_errorname)
    return rows


if __name__ == "__main__":
    print(*etl(), sep="\n")
