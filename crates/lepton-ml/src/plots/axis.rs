//! Ranges, ticks and their labels.
//!
//! Owns: round numbers. Must not know: pixels of marks.

/// A range of numbers laid on a range of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Covers the values, a little more, and never nothing.
    pub(super) fn covering(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let finite = values.filter(|v| v.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        if low > high {
            return Self::exactly(0.0, 1.0, from, to);
        }
        let margin = (high - low) * 0.05;
        let margin = if margin > 0.0 {
            margin
        } else {
            low.abs().max(1.0) * 0.1
        };
        Self::exactly(low - margin, high + margin, from, to)
    }

    /// From `low` to `high`.
    pub(super) fn exactly(low: f64, high: f64, from: f64, to: f64) -> Self {
        Self {
            low,
            high,
            from,
            to,
        }
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The ends.
    pub(super) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Round values inside the range, four to nine of them, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|f| f * power)
            .into_iter()
            .find(|s| *s >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.low / step).ceil();
        (0..12)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|value| *value <= self.high + step * 1e-6)
            .map(|value| (value, label(value, step)))
            .collect()
    }
}

/// A number with as many decimals as its step needs.
fn label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 {
        0.0
    } else {
        value
    };
    if value.abs() >= 1e6 || (step < 1e-4) {
        return format!("{value:.1e}");
    }
    let decimals = (0..5).find(|d| {
        (step * 10_f64.powi(*d)).fract() < 1e-9 || (step * 10_f64.powi(*d)).fract() > 1.0 - 1e-9
    });
    format!(
        "{value:.*}",
        usize::try_from(decimals.unwrap_or(4)).unwrap_or(4)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_round() {
        let ticks = Axis::exactly(0.0, 1.0, 0.0, 100.0).ticks();
        let labels: Vec<_> = ticks.iter().map(|t| t.1.as_str()).collect();
        assert_eq!(labels, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let labels: Vec<_> = Axis::exactly(-30.0, 410.0, 0.0, 1.0)
            .ticks()
            .into_iter()
            .map(|t| t.1)
            .collect();
        assert_eq!(labels, ["0", "100", "200", "300", "400"]);
    }

    proptest! {
        #[test]
        fn any_values_get_a_few_ticks_inside(values in proptest::collection::vec(-1e9_f64..1e9, 1..20)) {
            let axis = Axis::covering(values.iter().copied(), 0.0, 100.0);
            let ticks = axis.ticks();
            prop_assert!((2..=11).contains(&ticks.len()), "{ticks:?}");
            for (value, _) in ticks {
                prop_assert!((-1e-6..=100.0 + 1e-6).contains(&axis.at(value)));
            }
        }
    }
}
