//! What is recorded of a dataset's files when a version is frozen: rows, columns, or why they
//! are not known.

use std::io;
use std::sync::Arc;

use lepton_ml::tabular::{ColumnType, ReadAt, Source, summary};
use lepton_types::Name;
use lepton_types::resources::{
    BlobDigest, ColumnSummary, DatasetVersionStatus, FileEntry, Lineage,
};
use tokio::runtime::Handle;

use crate::app::App;
use crate::blobs::Blobs;
use crate::error::ApiError;

/// A blob that blocking code reads by position.
#[derive(Debug)]
struct Stored {
    blobs: Blobs,
    project: Name,
    digest: BlobDigest,
    length: u64,
    runtime: Handle,
}

impl ReadAt for Stored {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let range = offset..offset.saturating_add(buffer.len() as u64);
        let read = self.blobs.read_range(&self.project, self.digest, range);
        let bytes = self.runtime.block_on(read).map_err(io::Error::other)?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// Reads tables once, in bounded memory, off the async threads.
pub(crate) async fn summarise(
    app: &App,
    project: &Name,
    files: &[FileEntry],
) -> Result<DatasetVersionStatus, ApiError> {
    let is_table = |file: &FileEntry| {
        let path = file.path.to_ascii_lowercase();
        [".csv", ".tsv", ".parquet"]
            .iter()
            .any(|ending| path.ends_with(ending))
    };
    if !files.iter().all(is_table) {
        let note = "its files are not all tables (.csv or .parquet)".to_owned();
        return Ok(DatasetVersionStatus {
            note: Some(note),
            ..DatasetVersionStatus::default()
        });
    }
    // Long reads take turns, so that they never hold all threads that short ones need.
    let _turn = app.long_reads.acquire().await;
    let sources: Vec<Source> = files
        .iter()
        .map(|file| Source::Remote {
            name: file.path.clone(),
            file: Arc::new(Stored {
                blobs: app.blobs.clone(),
                project: project.clone(),
                digest: file.digest,
                length: file.size_bytes,
                runtime: Handle::current(),
            }),
        })
        .collect();
    let result = tokio::task::spawn_blocking(move || summary::summarise(&sources)).await;
    let result = result.map_err(|panicked| ApiError::internal(&panicked))?;
    Ok(match result {
        Err(error) => {
            let note = crate::error::Chain(&error).to_string();
            DatasetVersionStatus {
                note: Some(note),
                ..DatasetVersionStatus::default()
            }
        }
        Ok(table) => DatasetVersionStatus {
            rows: Some(table.rows),
            columns: table.columns.into_iter().map(column).collect(),
            note: None,
        },
    })
}

/// More columns than a table has anywhere here.
const COLUMNS_MAX: usize = 20_000;

/// What the preparation that made the files has counted already.
pub(crate) fn of_lineage(lineage: &Lineage) -> Result<DatasetVersionStatus, ApiError> {
    if lineage.columns.len() > COLUMNS_MAX {
        let message = format!("a table has at most {COLUMNS_MAX} columns");
        return Err(ApiError::invalid(message));
    }
    let columns = lineage.columns.iter().map(|column| {
        let is_number = matches!(column.r#type.as_str(), "int" | "float");
        ColumnSummary {
            name: column.name.clone(),
            r#type: if is_number { "number" } else { "text" }.to_owned(),
            missing: column.missing,
        }
    });
    Ok(DatasetVersionStatus {
        rows: Some(lineage.rows),
        columns: columns.collect(),
        note: None,
    })
}

fn column(column: summary::ColumnSummary) -> ColumnSummary {
    let word = match column.column_type {
        ColumnType::Number => "number",
        ColumnType::Text => "text",
    };
    ColumnSummary {
        name: column.name,
        r#type: word.to_owned(),
        missing: column.missing,
    }
}
