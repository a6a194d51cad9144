//! `lepton explain`: what an error code means, without a server.

use lepton_api::ErrorCode;
use serde::Serialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Cell, Table, Tone, paint};

/// Tells what an error code means and what to do
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton explain not-found\n  lepton explain        lists every code"
)]
pub(crate) struct Explain {
    /// The code; all where absent
    code: Option<String>,
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    http_status: u16,
    explanation: &'static str,
}

impl From<ErrorCode> for Explained {
    fn from(code: ErrorCode) -> Self {
        Self {
            code: code.as_str(),
            http_status: code.http_status(),
            explanation: code.explanation(),
        }
    }
}

impl Explain {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let Some(word) = &self.code else {
            let all: Vec<_> = ErrorCode::ALL
                .iter()
                .copied()
                .map(Explained::from)
                .collect();
            return ctx.answer(&all, || overview(&all).render(ctx.columns));
        };
        let code: ErrorCode = word.parse().map_err(|_| {
            let known: Vec<_> = ErrorCode::ALL.iter().map(ToString::to_string).collect();
            crate::names::Unknown::new("error code", word, &known)
        })?;
        let explained = Explained::from(code);
        ctx.answer(&explained, || {
            format!(
                "{} (HTTP {})\n\n{}",
                paint(explained.code, Tone::Strong),
                explained.http_status,
                explained.explanation
            )
        })
    }
}

fn overview(all: &[Explained]) -> Table {
    let mut table = Table::new(vec!["CODE", "HTTP", "MEANING"], "");
    for one in all {
        let first = one
            .explanation
            .split_inclusive(". ")
            .next()
            .unwrap_or_default();
        table.push(vec![
            one.code.into(),
            one.http_status.to_string().into(),
            Cell::toned(first.trim(), Tone::Faint),
        ]);
    }
    table
}
