//! Data preparation as a declared, repeatable step.
//!
//! Owns: the description of a preparation, its check, its execution out of core and on all
//! threads, and what it fits. Must not know: HTTP, users, where the bytes of an input come from.
//!
//! A [`Preparation`] is read from YAML or made from a query. [`Prepared::plan`] checks it against
//! the inputs' columns; [`Prepared::run`] writes the output's files. The same description over
//! the same inputs gives the same bytes, whatever the number of threads: inputs are cut into
//! pieces by their own bytes, pieces are worked on by whoever is free, and everything that
//! depends on order (rows written, sums of floating-point numbers) is put together in the
//! pieces' order.

mod bind;
mod description;
mod duplicates;
mod error;
mod fit;
mod join;
mod ordered;
mod output;
mod plan;
mod quantile;
mod query;
mod read;
mod rows;
mod run;
mod split;
mod statistics;
mod strata;
mod translate;

pub use description::{
    Clean, Constant, Derived, DropDuplicates, Encode, EncodeMethod, Fill, Format, Impute, Join,
    JoinKind, Named, Normalise, NormaliseMethod, Output, Preparation, Split, Step, Unseen,
};
pub use error::{DescriptionError, PrepError, ReadFault, StepFault};
pub use lepton_ml::fitted::FittedTransform;
pub use plan::{PlannedStep, Prepared};
pub use read::{Input, InputFile};
pub use run::{Limits, Observer, Outcome, OutputFile};
pub use statistics::PartStatistics;
