//! A series of numbers as one line of text.

/// A line of at most `width` eighth-blocks, from the smallest to the largest value; values that are
/// not finite leave a gap, and neighbours are averaged where there are more than `width`.
pub(crate) fn sparkline(values: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = values.len().min(width);
    let means: Vec<f64> = (0..columns)
        .map(|column| {
            let from = column * values.len() / columns;
            let to = ((column + 1) * values.len() / columns).max(from + 1);
            mean_of_finite(&values[from..to])
        })
        .collect();
    let finite = || means.iter().copied().filter(|mean| mean.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    means
        .iter()
        .map(|mean| {
            if !mean.is_finite() {
                ' '
            } else if high > low {
                let share = (mean - low) / (high - low);
                LEVELS[((share * 7.0).round() as usize).min(7)]
            } else {
                LEVELS[3]
            }
        })
        .collect()
}

fn mean_of_finite(values: &[f64]) -> f64 {
    let finite: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| value.is_finite())
        .collect();
    finite.iter().sum::<f64>() / finite.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_goes_from_low_to_high_and_keeps_its_gaps() {
        assert_eq!(
            sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 20),
            "▁▂▃▄▅▆▇█"
        );
        assert_eq!(sparkline(&[1.0, f64::NAN, 3.0], 20), "▁ █");
        assert_eq!(sparkline(&[2.0, 2.0], 20), "▄▄");
        assert_eq!(sparkline(&[], 20), "");
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(sparkline(&many, 8), "▁▂▃▄▅▆▇█");
    }
}
