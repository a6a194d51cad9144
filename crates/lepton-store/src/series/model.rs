//! Tests of the whole engine without SQL: a store in memory that can be cut off between any two steps of
//! a merge, beside a plain set of points.

use std::collections::BTreeSet;
use std::convert::Infallible;

use proptest::prelude::*;

use super::block::CHUNK_POINTS;
use super::*;

/// Up to `most` sorted, distinct points; few steps and times, so that they meet, and odd values.
pub(crate) fn points(most: usize) -> impl Strategy<Value = Vec<Point>> {
    prop::collection::btree_set(point(), 0..=most).prop_map(|points| points.into_iter().collect())
}

fn point() -> impl Strategy<Value = Point> {
    let step = prop_oneof![8 => 0..2_000_i64, 2 => Just(0), 1 => any::<i64>()];
    let at = prop_oneof![8 => 0..5_i64, 1 => any::<i64>()];
    let value = prop_oneof![
        4 => prop::num::f64::ANY,
        4 => (-9..9_i32).prop_map(f64::from),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
    ];
    (step, at, value).prop_map(|(step, at, value)| Point::of_parts(step, at, value))
}

/// A falling loss with a wave, a point each 100 ms, give or take a few.
pub(crate) fn smooth(count: usize) -> Vec<Point> {
    (0..count as i64)
        .map(|step| {
            let x = step as f64;
            let value = 2.0 * (-x / 5_000.0).exp() + 0.1 * (x / 700.0).sin() + 0.3;
            let jitter = (step * 7_919) % 8;
            Point::of_parts(step, 1_700_000_000_000 + step * 100 + jitter, value)
        })
        .collect()
}

#[derive(Debug, Default)]
struct Memory {
    fresh: Vec<Vec<u8>>,
    blocks: Vec<(Extent, Block)>,
    next_id: i64,
}

const SERIES: i64 = 7;

impl Memory {
    fn append(&mut self, points: &[Point]) {
        let points: BTreeSet<Point> = points.iter().copied().collect();
        let group = (SERIES, points.into_iter().collect());
        self.fresh.push(encode_batch(&[group]));
    }

    fn fresh(&self) -> Vec<Point> {
        let all: BTreeSet<Point> = self
            .fresh
            .iter()
            .flat_map(|batch| points_of(SERIES, batch).unwrap())
            .collect();
        all.into_iter().collect()
    }

    /// Merges, and stops after `steps` rewrites as if the process had died there.
    fn flush(&mut self, steps: usize) {
        let points = self.fresh();
        let Some(first) = points.first() else {
            return;
        };
        let begin = self
            .blocks
            .iter()
            .rposition(|(extent, _)| is_settled(extent, *first))
            .unwrap_or(0);
        let extents: Vec<Extent> = self.blocks[begin..].iter().map(|block| block.0).collect();
        for (step, rewrite) in plan(&extents, &points).into_iter().enumerate() {
            if step == steps {
                return;
            }
            let replaced = &extents[rewrite.replaced];
            let mut stored = Vec::new();
            for extent in replaced {
                let place = self.blocks.iter().position(|block| block.0.id == extent.id);
                let (_, block) = self.blocks.remove(place.unwrap());
                stored.extend(decode_block(&block.body, extent.points).unwrap());
            }
            let merged = merge(&stored, &points[rewrite.points]);
            for piece in split(&merged, rewrite.at_end) {
                self.store(piece);
            }
        }
        if steps > extents.len() + 1 {
            self.fresh.clear();
        }
    }

    fn store(&mut self, points: &[Point]) {
        let block = Block::encode(points).unwrap();
        self.next_id += 1;
        let extent = Extent {
            id: self.next_id,
            first: block.whole.first,
            last: block.whole.last,
            points: block.whole.points,
            times: block.whole.times,
        };
        self.blocks.push((extent, block));
        self.blocks.sort_by_key(|(extent, _)| extent.first);
    }

    fn check(&self) {
        for pair in self.blocks.windows(2) {
            assert!(pair[0].0.last < pair[1].0.first, "blocks overlap");
        }
        for (extent, _) in &self.blocks {
            assert!(extent.points as usize <= BLOCK_POINTS);
        }
    }

    fn read(&self) -> Reading<'_> {
        Reading {
            memory: self,
            next: 0,
        }
    }
}

struct Reading<'a> {
    memory: &'a Memory,
    next: usize,
}

impl Reading<'_> {
    fn block(&self, extent: &Extent) -> &Block {
        let mut blocks = self.memory.blocks.iter();
        &blocks.find(|block| block.0.id == extent.id).unwrap().1
    }
}

impl Blocks for Reading<'_> {
    type Error = Infallible;

    fn next(&mut self) -> Result<Option<Extent>, Infallible> {
        self.next += 1;
        Ok(self.memory.blocks.get(self.next - 1).map(|block| block.0))
    }

    fn points(&mut self, extent: &Extent) -> Result<Vec<Point>, Infallible> {
        Ok(decode_block(&self.block(extent).body, extent.points).unwrap())
    }

    fn summaries(&mut self, extent: &Extent) -> Result<(Summary, Vec<Summary>), Infallible> {
        Ok(decode_summaries(&self.block(extent).summary).unwrap())
    }
}

#[derive(Debug, Clone)]
enum Act {
    Append(Vec<Point>),
    /// Many points in a row, so that there are blocks of several chunks and several blocks.
    Grow {
        from: i64,
        count: usize,
    },
    /// Sends again what was sent that many appends ago.
    Retry(usize),
    /// Merges; cut off after so many steps.
    Flush(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => points(60).prop_map(Act::Append),
        2 => (-3_000..60_000_i64, 1..30_000_usize)
            .prop_map(|(from, count)| Act::Grow { from, count }),
        2 => (0..4_usize).prop_map(Act::Retry),
        2 => Just(Act::Flush(usize::MAX)),
        2 => (0..4_usize).prop_map(Act::Flush),
    ]
}

fn range() -> impl Strategy<Value = PointRange> {
    let bound = || prop::option::of(-10..70_000_i64);
    let time = || prop::option::of((0..70_i64).prop_map(lepton_types::Timestamp::from_millis));
    (bound(), bound(), time(), time()).prop_map(|(from_step, to_step, from_time, to_time)| {
        PointRange {
            from_step,
            to_step,
            from_time,
            to_time,
        }
    })
}

fn play(acts: &[Act]) -> (Memory, BTreeSet<Point>) {
    let (mut memory, mut all) = (Memory::default(), BTreeSet::new());
    let mut sent: Vec<Vec<Point>> = Vec::new();
    for act in acts {
        let points = match act {
            Act::Append(points) => points.clone(),
            Act::Grow { from, count } => (0..*count as i64)
                .map(|i| Point::of_parts(from + i, (from + i) % 64, ((from + i) as f64).sin()))
                .collect(),
            Act::Retry(ago) => match sent.iter().rev().nth(*ago) {
                Some(points) => points.clone(),
                None => continue,
            },
            Act::Flush(steps) => {
                memory.flush(*steps);
                memory.check();
                continue;
            }
        };
        memory.append(&points);
        all.extend(points.iter().copied());
        sent.push(points);
    }
    (memory, all)
}

fn all_of(memory: &Memory, fresh: &[Point], wanted: &Scan) -> Vec<Point> {
    scan(&mut memory.read(), fresh, wanted).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_reading_is_that_of_a_plain_set(
        acts in prop::collection::vec(act(), 1..12),
        range in range(), offset in 0_u64..20_000, limit in 1_usize..30_000,
    ) {
        let (memory, all) = play(&acts);
        let fresh = memory.fresh();
        let whole = Scan { range: PointRange::default(), after: None, offset: 0, limit: usize::MAX };
        let expected: Vec<Point> = all.iter().copied().collect();
        prop_assert_eq!(&all_of(&memory, &fresh, &whole), &expected);

        let held: Vec<Point> = all.iter().copied().filter(|point| range.holds(*point)).collect();
        let part = Scan { range, offset, limit, ..whole };
        let expected: Vec<Point> =
            held.iter().copied().skip(offset as usize).take(limit).collect();
        prop_assert_eq!(all_of(&memory, &fresh, &part), expected);

        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = all_of(&memory, &fresh, &Scan { range, after, offset: 0, limit });
            after = page.last().copied();
            let more = page.len() == limit;
            paged.extend(page);
            if !more {
                break;
            }
        }
        prop_assert_eq!(paged, held);
    }

    #[test]
    fn a_curve_keeps_the_extremes(
        acts in prop::collection::vec(act(), 1..10),
        range in range(), points_max in 4_usize..600, by_time: bool,
    ) {
        let (memory, all) = play(&acts);
        let axis = if by_time { Axis::Time } else { Axis::Step };
        let held: Vec<Point> = all.iter().copied().filter(|point| range.holds(*point)).collect();
        let places = || held.iter().map(|point| axis.of(*point));
        let ends = (places().min().unwrap_or(0), places().max().unwrap_or(0));
        let curve =
            draw(&mut memory.read(), &memory.fresh(), &range, (axis, ends), points_max).unwrap();

        prop_assert!(curve.len() <= points_max.max(4));
        prop_assert!(curve.is_sorted_by(|a, b| a < b));
        prop_assert!(curve.iter().all(|point| held.binary_search(point).is_ok()));
        prop_assert_eq!(curve.first(), held.first());
        prop_assert_eq!(curve.last(), held.last());
        // Around every point, no further than two pixels, one is kept that is as high and one that is
        // as low.
        let width = ends.1.abs_diff(ends.0) / (points_max / 4).max(1) as u64 + 1;
        let numbers = |points: &[Point]| -> Vec<Point> {
            points.iter().copied().filter(|point| !point.is_nan()).collect()
        };
        let kept = numbers(&curve);
        for point in numbers(&held) {
            let near = || kept.iter().filter(|other| {
                axis.of(**other).abs_diff(axis.of(point)) < width.saturating_mul(2)
            });
            prop_assert!(near().any(|other| other.rank >= point.rank), "{point:?} {kept:?}");
            prop_assert!(near().any(|other| other.rank <= point.rank), "{point:?} {kept:?}");
        }
    }
}

#[test]
fn a_growing_series_ends_in_few_blocks_and_rewrites_little() {
    let mut memory = Memory::default();
    let all = smooth(4 * BLOCK_POINTS);
    for batch in all.chunks(200) {
        memory.append(batch);
        memory.flush(usize::MAX);
    }
    memory.check();
    assert!(
        memory.blocks.len() < 4 + 10,
        "{} blocks",
        memory.blocks.len()
    );
    // Each block that was ever made got an id.
    let flushes = all.len() / 200;
    assert!((memory.next_id as usize) < flushes + 10);
}

#[test]
fn a_curve_of_a_long_series_decodes_nothing() {
    struct NoPoints<'a>(Reading<'a>);
    impl Blocks for NoPoints<'_> {
        type Error = Infallible;
        fn next(&mut self) -> Result<Option<Extent>, Infallible> {
            self.0.next()
        }
        fn points(&mut self, _: &Extent) -> Result<Vec<Point>, Infallible> {
            panic!("a block was decoded")
        }
        fn summaries(&mut self, extent: &Extent) -> Result<(Summary, Vec<Summary>), Infallible> {
            self.0.summaries(extent)
        }
    }
    let mut memory = Memory::default();
    let all = smooth(100 * CHUNK_POINTS);
    memory.append(&all);
    memory.flush(usize::MAX);
    let ends = (0, all.len() as i64 - 1);
    let curve = draw(
        &mut NoPoints(memory.read()),
        &[],
        &PointRange::default(),
        (Axis::Step, ends),
        320,
    );
    assert!(curve.unwrap().len() > 100);
}
