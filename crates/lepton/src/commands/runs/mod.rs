//! `lepton runs`: runs beside each other, out of Lepton and into it.

mod compare;
mod export;
mod import;
mod purge;
mod series;
mod tables;

use lepton_client::Over;

use crate::context::Context;
use crate::failure::Failure;

/// Compares, draws, exports, imports and purges runs
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Runs {
    Compare(compare::Compare),
    Series(series::Series),
    Export(export::Export),
    Import(import::Import),
    Purge(purge::Purge),
}

/// What a plot is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Against {
    /// Steps.
    #[default]
    Step,
    /// Seconds since the first point.
    Time,
}

impl Against {
    const fn over(self) -> Over {
        match self {
            Self::Step => Over::Step,
            Self::Time => Over::Time,
        }
    }
}

impl Runs {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Compare(compare) => compare.run(ctx),
            Self::Series(series) => series.run(ctx),
            Self::Export(export) => export.run(ctx),
            Self::Import(import) => import.run(ctx),
            Self::Purge(purge) => purge.run(ctx),
        }
    }
}
