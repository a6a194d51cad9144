//! Progress on a terminal: bars that vanish; in a pipe: nothing or plain lines.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;

/// Redraws of a spinner; faster is not seen.
const TICK: Duration = Duration::from_millis(120);

/// A bar, or nothing where nobody looks.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress {
    /// Bytes that move, of `total` if that is known.
    pub(crate) fn of_bytes(ctx: &Context, what: &str, total: Option<u64>) -> Self {
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {msg} {bytes} {bytes_per_sec}",
            ),
        };
        Self::shown(ctx, bar, template, what)
    }

    /// Something that takes `total` of its own units.
    pub(crate) fn of_steps(ctx: &Context, what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        Self::shown(ctx, bar, "{msg} {wide_bar:.cyan/dim} {pos}/{len}", what)
    }

    /// Something of known length; only its share is shown.
    pub(crate) fn of_percent(ctx: &Context, what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        Self::shown(ctx, bar, "{msg} {wide_bar:.cyan/dim} {percent}%", what)
    }

    /// Something whose end nobody knows.
    pub(crate) fn of_waiting(ctx: &Context, what: &str) -> Self {
        let bar = ProgressBar::new_spinner();
        Self::shown(ctx, bar, "{spinner} {wide_msg} {elapsed}", what)
    }

    fn shown(ctx: &Context, bar: ProgressBar, template: &str, what: &str) -> Self {
        if !ctx.progress {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template(template)
            .expect("invariant: the templates above are valid");
        bar.set_style(style);
        bar.set_message(what.to_owned());
        if ctx.progress {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    pub(crate) fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// There is more to do than was known, or less.
    pub(crate) fn expect(&self, total: u64) {
        self.bar.set_length(total);
    }

    pub(crate) fn set(&self, at: u64) {
        self.bar.set_position(at);
    }

    pub(crate) fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }
}
