"""Writes the answer to an SQL query as a table, CSV, JSON or Parquet."""

import csv
import io
from pathlib import Path

from evolve.reading import Reading, Rows
from evolve.text import columns
from evolve.writing import json_text, write_output


def write_answer(reading: Reading, sql: str, form: str, output: Path | None) -> None:
    """Run a statement and write its rows.

    Args:
        reading: the lineage that is asked.
        sql: one statement.
        form: `table`, `csv`, `json` or `parquet`.
        output: file to write, None: stdout, which `parquet` does not know.

    Raises:
        LineageError: there is no statement, or DuckDB refuses it.
        RunError: the file cannot be written.
    """
    reading.require_statement(sql)
    if form == "parquet" and output is not None:
        reading.write_parquet(sql, output)
        return
    write_output(output, _text(reading.query(sql), form))


def _text(rows: Rows, form: str) -> str:
    if form == "json":
        return json_text(rows.objects()) + "\n"
    if form == "csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(rows.names)
        writer.writerows(rows.rows)
        return buffer.getvalue()
    return columns(rows.names, rows.rows) + "\n"
