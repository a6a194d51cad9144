//! ONNX Runtime behind one type.
//!
//! Owns: loading the shared library and a model, running it, and turning values in and
//! out of tensors. It alone names the crate `ort`, whose interface still moves. Must not
//! know: requests, queues, HTTP. Nothing here panics on a bad model: what the binding
//! would panic on is caught and told.

mod classes;
mod library;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lepton_types::signature::{Signature, Task, TensorSpec};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, ValueType};

use crate::inputs::{self, InputError};
use crate::tensor::{NamedTensor, Tensor};

pub use library::LibraryError;

/// The most of a runtime's message that is passed on: a line or two, not a dump.
const MESSAGE_CHARS_MAX: usize = 600;

/// Files above this are not searched for class names: those hold weights, not trees.
const CLASSES_FILE_BYTES_MAX: u64 = 64 << 20;

/// The most classes that a model's metadata is asked for.
const CLASSES_TOLD_MAX: usize = 10_000;

/// A loaded model, ready to run.
#[derive(Debug)]
pub struct Engine {
    session: Session,
    signature: Signature,
}

/// Where the model's bytes are.
#[derive(Debug, Clone, Copy)]
pub enum ModelSource<'a> {
    /// A file, beside which its external data may lie.
    File(&'a Path),
    /// The bytes of a self-contained file.
    Bytes(&'a [u8]),
}

/// One output of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The output's name.
    pub name: String,
    /// Its value.
    pub tensor: Tensor,
    /// The names of the columns, where the model itself gives them (`ZipMap`).
    pub columns: Option<Vec<String>>,
}

/// Why a model does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No runtime.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// No such file, or one that cannot be read.
    #[error("cannot read the model file `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime refuses it.
    #[error("the model cannot be loaded: {reason}")]
    Refused {
        /// The runtime's own words, shortened.
        reason: String,
    },
    /// It takes or gives what the inference protocol has no type for.
    #[error("{role} `{name}` is {found}, which the inference protocol cannot carry")]
    Unsupported {
        /// `input` or `output`.
        role: &'static str,
        /// The input or output.
        name: String,
        /// Its type.
        found: String,
    },
}

/// Why a run gives no outputs.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The inputs do not fit.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A text that the runtime cannot take.
    #[error("input `{input}` holds a text with a NUL character at element {at}")]
    NulInText {
        /// The input.
        input: String,
        /// Which element, row by row.
        at: usize,
    },
    /// The model refuses these values (an index out of range, lengths that differ between inputs).
    #[error("the model refuses the inputs: {reason}")]
    Refused {
        /// The runtime's own words, shortened.
        reason: String,
    },
    /// The run failed for a reason that is not the caller's.
    #[error("the model failed: {reason}")]
    Failed {
        /// The runtime's own words, shortened.
        reason: String,
    },
}

impl Engine {
    /// Loads ONNX Runtime from `library`, unless that was done already, and the model
    /// into it, to run on `threads` threads (at least one).
    ///
    /// # Errors
    /// The library or the model cannot be loaded, or it has inputs or outputs that the
    /// inference protocol cannot carry.
    pub fn load(library: &Path, model: ModelSource<'_>, threads: usize) -> Result<Self, LoadError> {
        let environment = library::environment(library)?;
        let bytes = classes_bytes(model)?;
        let session = guarded(|| start_session(environment, model, threads.max(1)))
            .map_err(|reason| LoadError::Refused { reason })?;
        let signature = guarded(|| Ok(describe(&session, bytes.as_deref())))
            .map_err(|reason| LoadError::Refused { reason })??;
        Ok(Self { session, signature })
    }

    /// What the model takes and gives, from the model itself.
    #[must_use]
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Takes over what `told` says of the meaning of the model's inputs and outputs.
    pub fn adopt(&mut self, told: &Signature) {
        self.signature.adopt(told);
    }

    /// Runs the model once.
    ///
    /// # Errors
    /// The inputs do not fit the signature, or the model fails on them.
    pub fn infer(&mut self, inputs: Vec<NamedTensor>) -> Result<Vec<Output>, InferError> {
        inputs::check(&self.signature, &inputs)?;
        let inputs = inputs
            .into_iter()
            .map(|input| {
                let value = values::to_runtime(&input.name, input.tensor)?;
                Ok((input.name, value))
            })
            .collect::<Result<Vec<_>, InferError>>()?;
        let Self { session, signature } = self;
        match catch_unwind(AssertUnwindSafe(|| run(session, signature, inputs))) {
            Ok(outputs) => outputs,
            Err(_) => Err(InferError::Failed {
                reason: "the runtime's binding panicked".to_owned(),
            }),
        }
    }
}

fn run(
    session: &mut Session,
    signature: &Signature,
    inputs: Vec<(String, SessionInputValue<'static>)>,
) -> Result<Vec<Output>, InferError> {
    let outputs = session.run(inputs).map_err(|error| {
        let reason = shortened(error.message());
        match error.code() {
            ort::ErrorCode::InvalidArgument => InferError::Refused { reason },
            _ => InferError::Failed { reason },
        }
    })?;
    outputs
        .into_iter()
        .map(|(name, value)| values::from_runtime(name, value, &signature.classes))
        .collect()
}

#[expect(
    clippy::result_large_err,
    reason = "the binding's error carries its builder"
)]
fn start_session(
    environment: &ort::environment::Environment,
    model: ModelSource<'_>,
    threads: usize,
) -> Result<Session, String> {
    let say = |error: &ort::Error| shortened(error.message());
    let options = Session::builder(environment).map_err(|error| say(&error))?;
    let mut options = options
        .with_optimization_level(GraphOptimizationLevel::Level3)
        .and_then(|options| options.with_intra_threads(threads))
        .and_then(|options| options.with_inter_threads(1))
        // Requests differ in length: a pattern per length would only grow memory.
        .and_then(|options| options.with_memory_pattern(false))
        // An idle replica must not burn the processors that others wait for.
        .and_then(|options| options.with_intra_op_spinning(false))
        // Without the arena, memory taken for one large batch goes back afterwards.
        .and_then(|options| options.with_execution_providers([ort::ep::CPU::default().build()]))
        .map_err(|error| shortened(error.message()))?;
    match model {
        ModelSource::File(path) => options.commit_from_file(path),
        ModelSource::Bytes(bytes) => options.commit_from_memory(bytes),
    }
    .map_err(|error| say(&error))
}

/// The model's own inputs and outputs, and what its metadata says of their meaning.
fn describe(session: &Session, bytes: Option<&[u8]>) -> Result<Signature, LoadError> {
    let inputs = session.inputs().iter().map(input_spec);
    let outputs = session.outputs().iter().map(output_spec);
    let metadata = session.metadata().ok();
    let told = |key: &str| metadata.as_ref().and_then(|metadata| metadata.custom(key));
    // As Lepton's trainer writes them.
    let classes: Vec<String> = (0..CLASSES_TOLD_MAX)
        .map_while(|at| told(&format!("lepton.class.{at}")))
        .collect();
    Ok(Signature {
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: outputs.collect::<Result<_, _>>()?,
        task: match told("lepton.task").as_deref() {
            Some("classification") => Some(Task::Classification),
            Some("regression") => Some(Task::Regression),
            _ => None,
        },
        classes: if classes.is_empty() {
            bytes.and_then(classes::find).unwrap_or_default()
        } else {
            classes
        },
        target: told("lepton.target").filter(|target| !target.is_empty()),
    })
}

fn input_spec(outlet: &Outlet) -> Result<TensorSpec, LoadError> {
    tensor_spec(outlet).ok_or_else(|| unsupported("input", outlet))
}

fn output_spec(outlet: &Outlet) -> Result<TensorSpec, LoadError> {
    let maps = |value: &ValueType, rows: i64| match value {
        ValueType::Map { value, .. } => values::datatype(*value)
            .map(|datatype| TensorSpec::new(outlet.name(), datatype, vec![rows, -1])),
        _ => None,
    };
    let zipped = match outlet.dtype() {
        ValueType::Sequence(element) => maps(element, -1),
        other => maps(other, 1),
    };
    zipped
        .or_else(|| tensor_spec(outlet))
        .ok_or_else(|| unsupported("output", outlet))
}

fn tensor_spec(outlet: &Outlet) -> Option<TensorSpec> {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let datatype = values::datatype(*ty)?;
            Some(TensorSpec::new(outlet.name(), datatype, shape.to_vec()))
        }
        _ => None,
    }
}

fn unsupported(role: &'static str, outlet: &Outlet) -> LoadError {
    LoadError::Unsupported {
        role,
        name: outlet.name().to_owned(),
        found: match outlet.dtype() {
            ValueType::Tensor { ty, .. } => format!("a tensor of {ty}"),
            ValueType::Sequence(_) => "a sequence".to_owned(),
            ValueType::Map { .. } => "a map".to_owned(),
            ValueType::Optional(_) => "optional".to_owned(),
        },
    }
}

/// The bytes to look for class names in; also the check that the file can be read.
fn classes_bytes(model: ModelSource<'_>) -> Result<Option<Vec<u8>>, LoadError> {
    let path = match model {
        ModelSource::Bytes(bytes) => return Ok(Some(bytes.to_vec())),
        ModelSource::File(path) => path,
    };
    let unreadable = |source| LoadError::File {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > CLASSES_FILE_BYTES_MAX {
        return std::fs::File::open(path).map(|_| None).map_err(unreadable);
    }
    std::fs::read(path).map(Some).map_err(unreadable)
}

/// Runs what calls into the binding, which panics on types it does not know.
fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err("it has a type that the runtime's binding does not know".to_owned())
    })
}

fn shortened(message: &str) -> String {
    let flat = message.trim().replace(['\n', '\r'], " ");
    match flat.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}
