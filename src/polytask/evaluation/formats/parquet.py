from __future__ import annotations

from pathlib import Path
from typing import Any

from polytask.errors import need_extra

from .base import Columns, Format, Labels, formats


@formats.register("parquet")
class Parquet(Format):
    """An Apache Parquet file with the columns of csv, in full precision (extra `data`)."""

    def __init__(self, path: Path, labels: Labels) -> None:
        super().__init__(path, labels)
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise need_extra("pyarrow", "data", "Writing Parquet") from error
        self.pyarrow: Any = pyarrow
        self.parquet: Any = parquet
        self.writer: Any = None

    def add(self, rows: Columns) -> None:
        columns = {
            "id": list(rows.ids),
            "prediction": list(rows.predictions),
            **({} if rows.truth is None else {"truth": list(rows.truth)}),
        }
        if rows.probabilities_NC is not None:
            columns |= {f"p({name})": list(p_N) for name, p_N in zip(rows.names, rows.probabilities_NC.T, strict=True)}
        columns |= {name: list(values_N) for name, values_N in rows.numbers.items()}
        if self.writer is None:
            self.writer = self.parquet.ParquetWriter(self.path, self._schema(rows, columns))
        self.writer.write_table(self.pyarrow.table(columns, schema=self.writer.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _schema(self, rows: Columns, columns: dict[str, Any]) -> Any:
        # Told beforehand: a portion in which no row has a label would pass for one of another type.
        several = any(isinstance(value, list) for value in rows.predictions)
        of_labels = self.pyarrow.list_(self.pyarrow.string()) if several else self.pyarrow.string()
        shown = of_labels if rows.names else self.pyarrow.float64()
        types = {"id": self.pyarrow.string(), "prediction": shown, "truth": shown}
        return self.pyarrow.schema([(name, types.get(name, self.pyarrow.float64())) for name in columns])
