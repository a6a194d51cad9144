//! Exact values by rank, in bounded memory and few passes.
//!
//! Owns: the narrowing search. A value's 64 bits are taken as a whole number that sorts as the
//! values do; each pass either counts the present range in bins, which narrows it, or collects
//! what is left. Must not know: columns, passes over files.

/// Bins of one counting pass.
const BINS: u64 = 1 << 16;

/// A whole number that sorts as the value does; both zeros are one.
pub(crate) fn key_of(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

pub(crate) fn value_of(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 {
        key & !(1 << 63)
    } else {
        !key
    })
}

/// Whole numbers that a search still looks at; both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    low: u64,
    high: u64,
}

impl Range {
    const ALL: Self = Self {
        low: 0,
        high: u64::MAX,
    };

    fn bin_width(self) -> u64 {
        (self.high - self.low) / BINS + 1
    }
}

/// What a pass does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) range: Range,
    pub(crate) collect: bool,
}

/// What a pass found in a range.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Bins(Vec<u32>),
    Keys(Vec<u64>),
}

impl Look {
    /// Looks at some values.
    pub(crate) fn at(self, values: impl Iterator<Item = f64>) -> Seen {
        let Range { low, high } = self.range;
        let keys = values.map(key_of).filter(|key| (low..=high).contains(key));
        if self.collect {
            return Seen::Keys(keys.collect());
        }
        let width = self.range.bin_width();
        let mut bins = vec![0; usize::try_from(BINS).expect("invariant: 65536 fits")];
        for key in keys {
            bins[usize::try_from((key - low) / width).expect("invariant: below 65536")] += 1;
        }
        Seen::Bins(bins)
    }
}

/// What all pieces found together.
#[derive(Debug, Clone)]
pub(crate) enum Sum {
    Bins(Vec<u64>),
    Keys(Vec<u64>),
}

impl Sum {
    pub(crate) fn new(look: Look) -> Self {
        if look.collect {
            Self::Keys(Vec::new())
        } else {
            Self::Bins(vec![0; 1 << 16])
        }
    }

    pub(crate) fn add(&mut self, seen: Seen) {
        match (self, seen) {
            (Self::Bins(sums), Seen::Bins(bins)) => sums
                .iter_mut()
                .zip(bins)
                .for_each(|(sum, bin)| *sum += u64::from(bin)),
            (Self::Keys(all), Seen::Keys(keys)) => all.extend(keys),
            _ => unreachable!("a pass either counts or collects a range"),
        }
    }
}

/// The search for the quantile of some share.
#[derive(Debug, Clone)]
pub(crate) struct Quantile {
    share: f64,
    /// The ranks around it; unknown before the first pass has counted the values.
    ends: Option<[Rank; 2]>,
    weight: f64,
}

#[derive(Debug, Clone, Copy)]
struct Rank {
    /// Counted from the beginning of the range.
    rank: u64,
    count: u64,
    range: Range,
    found: Option<u64>,
}

impl Quantile {
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            ends: None,
            weight: 0.0,
        }
    }

    /// What to look at next; nothing once the values are known. Up to `most` values are collected.
    pub(crate) fn looks(&self, most: u64) -> Vec<Look> {
        let Some(ends) = &self.ends else {
            return vec![Look {
                range: Range::ALL,
                collect: false,
            }];
        };
        let open = ends.iter().filter(|end| end.found.is_none());
        open.map(|end| Look {
            range: end.range,
            collect: end.count <= most,
        })
        .collect()
    }

    /// Takes what a pass found at a look. Collected keys must be sorted.
    pub(crate) fn take(&mut self, look: Look, sum: &Sum) {
        if self.ends.is_none() {
            let Sum::Bins(bins) = sum else { return };
            let count: u64 = bins.iter().sum();
            if count == 0 {
                return;
            }
            #[expect(clippy::cast_precision_loss, reason = "ranks are below 2^53")]
            let place = (count - 1) as f64 * self.share;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank"
            )]
            let low = place.floor() as u64;
            self.weight = place - place.floor();
            let high = if self.weight > 0.0 { low + 1 } else { low };
            let end = |rank| Rank {
                rank,
                count,
                range: Range::ALL,
                found: None,
            };
            self.ends = Some([end(low), end(high)]);
        }
        for end in self
            .ends
            .iter_mut()
            .flatten()
            .filter(|end| end.found.is_none() && end.range == look.range)
        {
            end.take(look, sum);
        }
    }

    /// The quantile, between the values around it as far as its rank is between theirs.
    pub(crate) fn value(&self) -> Option<f64> {
        let [low, high] = self.ends?.map(|end| end.found.map(value_of));
        let (low, high) = (low?, high?);
        Some(if self.weight > 0.0 {
            low + (high - low) * self.weight
        } else {
            low
        })
    }
}

impl Rank {
    fn take(&mut self, look: Look, sum: &Sum) {
        match sum {
            Sum::Keys(keys) => {
                self.found = usize::try_from(self.rank)
                    .ok()
                    .and_then(|rank| keys.get(rank).copied());
            }
            Sum::Bins(bins) => {
                let width = look.range.bin_width();
                let mut before = 0;
                for (at, bin) in (0..).zip(bins) {
                    if self.rank < before + bin {
                        let low = look.range.low + at * width;
                        let high = low.saturating_add(width - 1).min(look.range.high);
                        self.rank -= before;
                        self.count = *bin;
                        self.range = Range { low, high };
                        break;
                    }
                    before += bin;
                }
                if self.range.low == self.range.high {
                    self.found = Some(self.range.low);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(values: &[f64], share: f64, most: u64) -> Option<f64> {
        let mut quantile = Quantile::new(share);
        for _ in 0..6 {
            for look in quantile.looks(most) {
                let mut sum = Sum::new(look);
                for piece in values.chunks(7) {
                    sum.add(look.at(piece.iter().copied()));
                }
                if let Sum::Keys(keys) = &mut sum {
                    keys.sort_unstable();
                }
                quantile.take(look, &sum);
            }
        }
        quantile.value()
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in prop::collection::vec(prop_oneof![-1e9..1e9, -1.0..1.0, Just(0.0), Just(-0.0), Just(7.5)], 1..200),
            share in prop::sample::select(vec![0.0, 0.25, 0.5, 0.75, 1.0]),
            most in prop::sample::select(vec![0_u64, 3, 1_000]),
        ) {
            let found = search(&values, share, most);
            values.sort_by(f64::total_cmp);
            let place = (values.len() - 1) as f64 * share;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            let expected = low + (high - low) * place.fract();
            prop_assert_eq!(found, Some(expected));
        }
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(search(&[], 0.5, 10), None);
    }
}
