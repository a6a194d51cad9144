//! Series of metrics: how points are ordered, packed, merged, read and drawn.
//!
//! Owns: the order and identity of points, the codecs, which blocks a merge rewrites, what a
//! range or a curve reads. Must not know: SQL, files, threads, clocks.
//!
//! A series is a **set** of points, and a point is all that it says: step, time and value. The union
//! of sets does not care what comes twice or in which order, and all of the engine rests on that:
//!
//! * an append writes its points down as they come, in one small batch a run, and looks at nothing
//!   that is stored, so it costs the same however much there is, and a batch sent twice adds nothing;
//! * in the background the batches of a run are merged into **blocks**: sorted, compressed, and
//!   disjoint within their series. Only blocks that new points fall into are rewritten;
//! * a merge may stop anywhere: until its batches are dropped, points are there twice, and every
//!   reader takes the union;
//! * each block carries summaries (first, last, lowest, highest) of itself and of each chunk of
//!   512 points; a curve is drawn from them, and decodes only what is wider than a pixel.

mod backlog;
mod batch;
mod block;
mod curve;
mod merge;
mod point;
mod range;
mod scan;
mod standing;

#[cfg(test)]
mod model;

pub(crate) use backlog::{Backlog, Waiting};
pub(crate) use batch::{decode_batch, encode_batch, points_of};
pub(crate) use block::{Block, Corrupt, Extent, Summary, decode_block, decode_summaries};
pub(crate) use curve::draw;
pub(crate) use merge::{BLOCK_POINTS, Rewrite, is_settled, merge, plan, split};
pub use point::Point;
pub use range::{Axis, PointRange};
pub(crate) use scan::{Blocks, Scan, scan};
pub(crate) use standing::Standing;
