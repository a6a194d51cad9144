//! Fills a worker's folder, as the worker's own user: what an archive says can do no more than the
//! worker itself could.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use crate::Input;

/// More than any working directory that was uploaded; a bound for archives that lie.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;

/// An input whose source is open, because the worker's user may not be able to open it.
pub(super) struct OpenInput {
    file: File,
    input: Input,
}

/// Opens the sources.
///
/// # Errors
/// A sentence for the person who started the worker.
pub(super) fn open(inputs: &[Input]) -> Result<Vec<OpenInput>, String> {
    inputs
        .iter()
        .map(|input| {
            let source = match input {
                Input::Archive { source } | Input::File { source, .. } => source,
            };
            match File::open(source) {
                Ok(file) => Ok(OpenInput {
                    file,
                    input: input.clone(),
                }),
                Err(error) => Err(format!("an input cannot be read: {error}")),
            }
        })
        .collect()
}

/// Unpacks and copies into the current folder.
///
/// # Errors
/// A sentence for the person who started the worker.
pub(super) fn unpack(inputs: Vec<OpenInput>) -> Result<(), String> {
    for OpenInput { file, input } in inputs {
        match input {
            Input::Archive { .. } => {
                archive(file).map_err(|error| format!("an archive does not unpack: {error}"))?;
            }
            Input::File { path, .. } => {
                copy(file, &path)
                    .map_err(|error| format!("`{path}` cannot be written: {error}"))?;
            }
        }
    }
    Ok(())
}

fn archive(mut file: File) -> io::Result<()> {
    let mut magic = [0_u8; 4];
    let read = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    let plain: Box<dyn Read> = match &magic[..read] {
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::stream::read::Decoder::new(file)?),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))),
        _ => Box::new(BufReader::new(file)),
    };
    tar::Archive::new(plain.take(UNPACKED_BYTES_MAX)).unpack(".")
}

fn copy(mut source: File, path: &str) -> io::Result<()> {
    let path = Path::new(path);
    let below = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !below {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    io::copy(&mut source, &mut File::create(path)?)?;
    Ok(())
}
