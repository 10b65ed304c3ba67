//! A parquet file read by column name, with errors that say which row is wrong.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use memmap2::Mmap;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use rayon::prelude::*;

use super::guard::guarded;

/// What a file is over which the parquet crate panics.
const CORRUPT: &str = "corrupt parquet file";

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

    /// Maps a file and opens it: what is not read takes no memory.
    ///
    /// # Errors
    ///
    /// As [`Table::open_file`].
    pub fn open_mapped(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = File::open(path).with_context(|| format!("{name}: cannot open the file"))?;
        // SAFETY: the map is only read. The file lies in the hub's cache, where files are put whole; that nobody shortens it while it is mapped is what every
        // user of mapped files has to ask of the other programs on the machine.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("{name}: cannot map the file"))?;
        Self::open(name, Bytes::from_owner(map))
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

    /// The names of a label's classes, which the hub keeps in the file's metadata; none where the file does not say.
    pub fn class_names(&self, column: &str) -> Vec<String> {
        let pairs = self.reader.metadata().file_metadata().key_value_metadata();
        let text = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "huggingface")?.value.clone());
        let Some(Ok(says)) = text.map(|text| serde_json::from_str::<serde_json::Value>(&text)) else {
            return Vec::new();
        };
        serde_json::from_value(says["info"]["features"][column]["names"].clone()).unwrap_or_default()
    }

    /// Counts the row groups.
    pub fn groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    /// Reads a row group of a column of byte strings.
    ///
    /// # Errors
    ///
    /// As [`Table::bytes`].
    pub fn bytes_of_group(&self, column: &str, group: usize) -> Result<Vec<Bytes>> {
        let rows = self.rows_of_group(group)?;
        let values = self.levels(column, group, rows, |leaf, reader| match reader {
            ColumnReader::ByteArrayColumnReader(reader) if leaf.max_rep_level() == 0 => Some(reader),
            _ => None,
        })?;
        ensure!(
            values.values.len() == rows,
            "{}: `{column}`, row group {group}: expected {rows} values, got {}",
            self.name,
            values.values.len()
        );
        Ok(values.values.iter().map(|v: &ByteArray| v.data().to_vec().into()).collect())
    }

    /// Reads a row group of the column of lists of integers whose name begins so, such as `digits.label.`: for each row the elements. An
    /// element is a list of numbers; where the column holds plain lists, a list of one.
    ///
    /// # Errors
    ///
    /// When there is no such column, it holds something else, or a page cannot be decoded.
    pub fn lists_of_group(&self, column: &str, group: usize) -> Result<Vec<Vec<Vec<i64>>>> {
        let rows = self.rows_of_group(group)?;
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let Some(leaf) = schema.columns().iter().find(|leaf| leaf.path().string().starts_with(column)) else {
            let found: Vec<_> = schema.columns().iter().map(|leaf| leaf.path().string()).collect();
            bail!("{}: expected a column `{column}..`, got {}", self.name, found.join(", "));
        };
        let name = leaf.path().string();
        let depth = leaf.max_rep_level();
        ensure!(matches!(depth, 1 | 2), "{}: column `{name}` must hold lists, or lists of lists", self.name);
        let levels: Levels<i64> = match leaf.physical_type() {
            Type::INT32 => {
                let levels: Levels<i32> = self.levels(&name, group, rows, |_, reader| match reader {
                    ColumnReader::Int32ColumnReader(reader) => Some(reader),
                    _ => None,
                })?;
                let Levels { values, definition, repetition, complete } = levels;
                Levels { values: values.into_iter().map(i64::from).collect(), definition, repetition, complete }
            }
            _ => self.levels(&name, group, rows, |_, reader| match reader {
                ColumnReader::Int64ColumnReader(reader) => Some(reader),
                _ => None,
            })?,
        };
        let (mut lists, mut values): (Vec<Vec<Vec<i64>>>, _) = (Vec::with_capacity(rows), levels.values.into_iter());
        for (&definition, &repetition) in levels.definition.iter().zip(&levels.repetition) {
            if repetition == 0 {
                lists.push(vec![]);
            }
            // A level below the highest: an empty list, or none.
            if definition == levels.complete
                && let (Some(row), Some(value)) = (lists.last_mut(), values.next())
            {
                match row.last_mut() {
                    Some(element) if repetition == 2 => element.push(value),
                    _ => row.push(vec![value]),
                }
            }
        }
        ensure!(lists.len() == rows, "{}: `{name}`: expected {rows} lists, got {}", self.name, lists.len());
        Ok(lists)
    }

    /// Reads a row group of the column of lists of numbers, whole or not, whose name begins so, such as `bbox.`: for each row the numbers.
    ///
    /// # Errors
    ///
    /// As [`Table::lists_of_group`].
    pub fn numbers_of_group(&self, column: &str, group: usize) -> Result<Vec<Vec<f64>>> {
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let leaf = schema.columns().iter().find(|leaf| leaf.path().string().starts_with(column));
        let (name, kind) = match leaf {
            Some(leaf) if leaf.max_rep_level() == 1 => (leaf.path().string(), leaf.physical_type()),
            _ => {
                let found: Vec<_> = schema.columns().iter().map(|leaf| leaf.path().string()).collect();
                bail!("{}: expected a column `{column}..` of lists of numbers, got {}", self.name, found.join(", "))
            }
        };
        let rows = self.rows_of_group(group)?;
        macro_rules! floats {
            ($variant:ident) => {
                self.levels(&name, group, rows, |_, reader| match reader {
                    ColumnReader::$variant(reader) => Some(reader),
                    _ => None,
                })
                .map(Levels::lists)
            };
        }
        let lists: Vec<Vec<f64>> = match kind {
            Type::FLOAT => widened::<f32>(floats!(FloatColumnReader)?),
            Type::DOUBLE => floats!(DoubleColumnReader)?,
            _ => {
                let lists = self.lists_of_group(column, group)?;
                lists.into_iter().map(|row| row.into_iter().flatten().map(|n| n as f64).collect()).collect()
            }
        };
        ensure!(lists.len() == rows, "{}: `{name}`: expected {rows} lists, got {}", self.name, lists.len());
        Ok(lists)
    }

    fn rows_of_group(&self, group: usize) -> Result<usize> {
        let groups = self.reader.metadata().row_groups();
        let rows = groups.get(group).and_then(|meta| usize::try_from(meta.num_rows()).ok());
        rows.with_context(|| format!("{}: no row group {group} with a number of rows", self.name))
    }

    /// The values of a row group with the levels that say which lists they belong to.
    fn levels<T: DataType>(
        &self,
        column: &str,
        group: usize,
        rows: usize,
        typed: impl Fn(&ColumnDescriptor, ColumnReader) -> Option<ColumnReaderImpl<T>>,
    ) -> Result<Levels<T::T>> {
        let place = || format!("{}: column `{column}`, row group {group}", self.name);
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let Some(index) = schema.columns().iter().position(|leaf| leaf.path().string() == column) else {
            let found: Vec<_> = schema.columns().iter().map(|leaf| leaf.path().string()).collect();
            bail!("{}: expected a column `{column}`, got {}", self.name, found.join(", "));
        };
        let leaf = schema.column(index);
        let read = || {
            let reader = self.reader.get_row_group(group)?.get_column_reader(index)?;
            let kind = leaf.physical_type();
            let mut reader = typed(&leaf, reader).ok_or_else(|| anyhow!("cannot hold {kind}"))?;
            let (mut definition, mut repetition, mut values) = (vec![], vec![], vec![]);
            let mut records = 0;
            while records < rows {
                let levels = (Some(&mut definition), Some(&mut repetition));
                let (read, ..) = reader.read_records(rows - records, levels.0, levels.1, &mut values)?;
                ensure!(read > 0, "the data end after {records} rows");
                records += read;
            }
            Ok(Levels { values, definition, repetition, complete: leaf.max_def_level() })
        };
        guarded(CORRUPT, read).with_context(place)
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
            guarded(CORRUPT, || parts.collect()).with_context(|| format!("{name}: column `{column}`"))?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// The values of a column that are there, and for each place its levels: below `complete` there is no value; a repetition of 0 begins a row.
struct Levels<V> {
    values: Vec<V>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    complete: i16,
}

impl<V> Levels<V> {
    /// The values of each row, of lists that hold no lists.
    fn lists(self) -> Vec<Vec<V>> {
        let (mut lists, mut values): (Vec<Vec<V>>, _) = (Vec::new(), self.values.into_iter());
        for (&definition, &repetition) in self.definition.iter().zip(&self.repetition) {
            if repetition == 0 {
                lists.push(Vec::new());
            }
            if definition == self.complete
                && let (Some(row), Some(value)) = (lists.last_mut(), values.next())
            {
                row.push(value);
            }
        }
        lists
    }
}

fn widened<T: Into<f64>>(lists: Vec<Vec<T>>) -> Vec<Vec<f64>> {
    lists.into_iter().map(|row| row.into_iter().map(Into::into).collect()).collect()
}
