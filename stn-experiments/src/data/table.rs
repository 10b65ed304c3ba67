//! A parquet file read by column name, with errors that say which row is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use rayon::prelude::*;

/// Reads whole columns of a parquet file that lies in memory.
///
/// In memory, because row groups are read in parallel: over a `File` the parquet crate duplicates the descriptor, the duplicates share
/// one position, and the groups would read each other's bytes.
pub struct Table {
    name: String,
    reader: SerializedFileReader<Bytes>,
}

impl Table {
    /// Reads a file into memory and opens it; its name stands for it in errors.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and as [`Table::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(path).with_context(|| format!("{name}: cannot read the file"))?;
        Self::open(name, Bytes::from(bytes))
    }

    /// Opens the bytes of a file; `name` stands for it in errors.
    ///
    /// # Errors
    ///
    /// When it is no parquet file, is truncated, or has no rows.
    pub fn open(name: impl Into<String>, file: Bytes) -> Result<Self> {
        let name = name.into();
        let reader = SerializedFileReader::new(file).with_context(|| format!("{name}: not a whole parquet file"))?;
        let table = Self { name, reader };
        ensure!(table.rows() > 0, "{}: expected rows, got a table without any", table.name);
        Ok(table)
    }

    /// Names the table as in its errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts the rows.
    pub fn rows(&self) -> usize {
        usize::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Reads a column of byte strings, such as `image.bytes`.
    ///
    /// # Errors
    ///
    /// When there is no such column, it has another type, a value is missing, or a page cannot be decoded.
    pub fn bytes(&self, column: &str) -> Result<Vec<Bytes>> {
        let values = self.read(column, Type::BYTE_ARRAY, |reader| match reader {
            ColumnReader::ByteArrayColumnReader(reader) => Some(reader),
            _ => None,
        })?;
        Ok(values.iter().map(|v: &ByteArray| v.data().to_vec().into()).collect())
    }

    /// Reads a column of 64-bit integers, such as `label`.
    ///
    /// # Errors
    ///
    /// As [`Table::bytes`].
    pub fn integers(&self, column: &str) -> Result<Vec<i64>> {
        self.read(column, Type::INT64, |reader| match reader {
            ColumnReader::Int64ColumnReader(reader) => Some(reader),
            _ => None,
        })
    }

    /// Reads one column, its row groups in parallel.
    fn read<T: DataType>(
        &self,
        column: &str,
        expected: Type,
        typed: impl Fn(ColumnReader) -> Option<ColumnReaderImpl<T>> + Sync,
    ) -> Result<Vec<T::T>> {
        let name = &self.name;
        let metadata = self.reader.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let leaves = schema.columns();
        let Some(index) = leaves.iter().position(|leaf| leaf.path().string() == column) else {
            let found: Vec<_> = leaves.iter().map(|leaf| leaf.path().string()).collect();
            bail!("{name}: expected a column `{column}`, got {}", found.join(", "));
        };
        let leaf = &leaves[index];
        ensure!(
            leaf.physical_type() == expected && leaf.max_rep_level() == 0,
            "{name}: column `{column}` must hold one {expected} a row, got {}{}",
            if leaf.max_rep_level() > 0 { "lists of " } else { "" },
            leaf.physical_type()
        );
        let mut first = 0;
        let mut groups = Vec::new();
        for (group, meta) in metadata.row_groups().iter().enumerate() {
            let rows = usize::try_from(meta.num_rows())
                .map_err(|_| anyhow!("{name}: row group {group} says {} rows", meta.num_rows()))?;
            groups.push((group, first, rows));
            first += rows;
        }
        ensure!(first == self.rows(), "{name}: expected {} rows, got {first} in its row groups", self.rows());

        let complete = leaf.max_def_level();
        let parts = groups.into_par_iter().map(|(group, first, rows)| {
            let place = || format!("{name}: column `{column}`, rows {first}..{}", first + rows);
            let reader = self.reader.get_row_group(group).with_context(place)?;
            let reader = reader.get_column_reader(index).with_context(place)?;
            let mut reader = typed(reader).ok_or_else(|| anyhow!("{}: reader of another type", place()))?;
            let (mut levels, mut values, mut records) = (Vec::new(), Vec::new(), 0);
            while records < rows {
                let wanted = rows - records;
                let (read, ..) =
                    reader.read_records(wanted, Some(&mut levels), None, &mut values).with_context(place)?;
                ensure!(read > 0, "{}: the data end after {records} rows", place());
                records += read;
            }
            if let Some(row) = levels.iter().position(|&level| level < complete) {
                bail!("{name}: row {}: expected a value in `{column}`, got none", first + row);
            }
            ensure!(values.len() == rows, "{}: expected {rows} values, got {}", place(), values.len());
            Ok(values)
        });
        let parts: Vec<Vec<T::T>> =
            guarded(|| parts.collect()).with_context(|| format!("{name}: column `{column}`"))?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// Makes a panic an error: the parquet crate takes some contradictions of a corrupt file for bugs of its own and panics.
/// Whatever it was reading is dropped, so no half-changed state survives.
fn guarded<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        bail!("corrupt parquet file: {}", text.unwrap_or_default())
    })
}
