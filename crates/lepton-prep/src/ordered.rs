//! Work on pieces by many threads, put together in the pieces' order.
//!
//! Owns: threads, their bounded look-ahead, and which failure is the first. Must not know: what
//! the work is.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::PrepError;

/// Pieces that may be in work or wait for their turn, beyond one a thread.
const AHEAD: usize = 2;

struct Turn<R> {
    /// The next piece to hand out.
    next: usize,
    /// The next result to put together.
    due: usize,
    done: BTreeMap<usize, Result<R, PrepError>>,
    /// How many pieces there are, once that is known.
    count: Option<usize>,
    over: bool,
}

struct Shared<S, R> {
    source: Mutex<S>,
    turn: Mutex<Turn<R>>,
    moved: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws pieces from `source`, works on them on `threads` threads, and gives the results to
/// `sink` in the pieces' order. Of several failures the one of the earliest piece is returned.
/// No more than the threads and a few are drawn ahead of the sink.
pub(crate) fn each<T, R: Send>(
    threads: usize,
    source: impl FnMut() -> Option<Result<T, PrepError>> + Send,
    work: impl Fn(usize, T) -> Result<R, PrepError> + Sync,
    mut sink: impl FnMut(usize, R) -> Result<(), PrepError>,
) -> Result<(), PrepError> {
    let threads = threads.max(1);
    let shared = Shared {
        source: Mutex::new(source),
        turn: Mutex::new(Turn {
            next: 0,
            due: 0,
            done: BTreeMap::new(),
            count: None,
            over: false,
        }),
        moved: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _end = Farewell(&shared);
                help(&shared, threads + AHEAD, &work);
            });
        }
        let _end = Farewell(&shared);
        put_together(&shared, &mut sink)
    })
}

/// Whoever leaves, by whatever way, leaves nobody waiting.
struct Farewell<'a, S, R>(&'a Shared<S, R>);

impl<S, R> Drop for Farewell<'_, S, R> {
    fn drop(&mut self) {
        let mut turn = lock(&self.0.turn);
        turn.over |= std::thread::panicking();
        self.0.moved.notify_all();
    }
}

fn help<T, R, S>(
    shared: &Shared<S, R>,
    window: usize,
    work: &(impl Fn(usize, T) -> Result<R, PrepError> + Sync),
) where
    S: FnMut() -> Option<Result<T, PrepError>>,
{
    loop {
        // Drawing is one at a time, so that pieces are numbered in the source's order.
        let mut source = lock(&shared.source);
        let index = {
            let mut turn = lock(&shared.turn);
            while !turn.over && turn.count.is_none() && turn.next >= turn.due + window {
                turn = shared
                    .moved
                    .wait(turn)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if turn.over || turn.count.is_some() {
                return;
            }
            turn.next
        };
        let piece = source();
        let mut turn = lock(&shared.turn);
        let result = match piece {
            None => {
                turn.count = Some(index);
                shared.moved.notify_all();
                return;
            }
            Some(piece) => {
                turn.next += 1;
                if piece.is_err() {
                    turn.count = Some(index + 1);
                }
                drop(turn);
                drop(source);
                piece.and_then(|piece| work(index, piece))
            }
        };
        let mut turn = lock(&shared.turn);
        if result.is_err() && turn.count.is_none_or(|count| count > index + 1) {
            // What comes after a failure is of no use.
            turn.count = Some(index + 1);
        }
        turn.done.insert(index, result);
        shared.moved.notify_all();
    }
}

fn put_together<S, R>(
    shared: &Shared<S, R>,
    sink: &mut impl FnMut(usize, R) -> Result<(), PrepError>,
) -> Result<(), PrepError> {
    loop {
        let mut turn = lock(&shared.turn);
        let result = loop {
            let due = turn.due;
            if let Some(result) = turn.done.remove(&due) {
                break result;
            }
            if turn.count.is_some_and(|count| due >= count) {
                turn.over = true;
                return Ok(());
            }
            if turn.over {
                return Err(PrepError::ThreadDied);
            }
            turn = shared
                .moved
                .wait(turn)
                .unwrap_or_else(PoisonError::into_inner);
        };
        let index = turn.due;
        drop(turn);
        let outcome = result.and_then(|result| sink(index, result));
        let mut turn = lock(&shared.turn);
        turn.due += 1;
        turn.over |= outcome.is_err();
        shared.moved.notify_all();
        drop(turn);
        outcome?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> impl FnMut() -> Option<Result<usize, PrepError>> + Send {
        let mut all = 0..count;
        move || all.next().map(Ok)
    }

    #[test]
    fn results_come_in_order_whatever_the_threads() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            each(
                threads,
                numbers(100),
                |index, n| {
                    assert_eq!(index, n);
                    if n % 7 == 0 {
                        std::thread::yield_now();
                    }
                    Ok(n * 2)
                },
                |_, n| {
                    seen.push(n);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(seen, (0..100).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_earliest_failure_is_returned() {
        for _ in 0..20 {
            let mut seen = 0;
            let fail = |_, n: usize| match n {
                30.. => Err(PrepError::Query(n.to_string())),
                n => Ok(n),
            };
            let error = each(4, numbers(100), fail, |_, _| {
                seen += 1;
                Ok(())
            })
            .unwrap_err();
            assert_eq!(
                (seen, error.to_string().as_str()),
                (30, "the query failed: 30")
            );
        }
    }

    #[test]
    fn a_sink_that_fails_ends_all() {
        let error = each(
            3,
            numbers(1_000_000),
            |_, n| Ok(n),
            |_, n| match n {
                5 => Err(PrepError::NoRows),
                _ => Ok(()),
            },
        );
        assert!(matches!(error, Err(PrepError::NoRows)));
    }
}
