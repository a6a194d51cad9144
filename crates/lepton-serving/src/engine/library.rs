//! The one ONNX Runtime environment of the process.
//!
//! Owns: loading the shared library once. A process holds one library for its life;
//! asking for another file later is an error, not a second copy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;

/// Why ONNX Runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// There is no such file.
    #[error("no ONNX Runtime library at `{}`: run `scripts/fetch-onnxruntime`, or set ORT_DYLIB_PATH", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is no ONNX Runtime, or one too old, or for another machine.
    #[error("cannot load ONNX Runtime from `{}`: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Another file was loaded before.
    #[error("ONNX Runtime is already loaded from `{}`, not from `{}`", loaded.display(), asked.display())]
    Other {
        /// The file in use.
        loaded: PathBuf,
        /// The file asked for.
        asked: PathBuf,
    },
}

struct Loaded {
    path: PathBuf,
    environment: Environment,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The environment, made on the first call.
pub(super) fn environment(library: &Path) -> Result<&'static Environment, LibraryError> {
    let path = library.canonicalize().map_err(|_| LibraryError::Absent {
        path: library.to_owned(),
    })?;
    let _turn = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match LOADED.get() {
        Some(loaded) => loaded,
        None => {
            let environment = start(&path)?;
            LOADED.get_or_init(|| Loaded {
                path: path.clone(),
                environment,
            })
        }
    };
    if loaded.path == path {
        Ok(&loaded.environment)
    } else {
        Err(LibraryError::Other {
            loaded: loaded.path.clone(),
            asked: path,
        })
    }
}

fn start(path: &Path) -> Result<Environment, LibraryError> {
    let unusable = |reason: String| LibraryError::Unusable {
        path: path.to_owned(),
        reason,
    };
    // The binding asserts on a library whose entry points answer nothing.
    catch_unwind(AssertUnwindSafe(|| {
        ort::init_from(path)
            .map_err(|error| unusable(error.to_string()))?
            .with_name("lepton")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(error.message().to_owned()))
    }))
    .unwrap_or_else(|_| Err(unusable("it answers no interface that is known".to_owned())))
}
