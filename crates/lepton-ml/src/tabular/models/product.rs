//! Matrix products.
//!
//! Owns: the one call into `matrixmultiply`, made safe by its length checks. Must not
//! know: what is multiplied.

/// A row-major matrix, or the transpose of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// The numbers that can be multiplied.
pub(super) trait Number: Copy {
    /// # Safety
    /// As `matrixmultiply::sgemm`: all three operands must lie inside their allocations
    /// under the given extents and strides.
    #[expect(unsafe_code, reason = "the library multiplies behind raw pointers")]
    unsafe fn gemm(
        extents: (usize, usize, usize),
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        keep: Self,
        c: (*mut Self, isize, isize),
    );
}

impl<'a, T> View<'a, T> {
    /// `values` as `columns` columns.
    ///
    /// # Panics
    /// If the values do not fill whole rows.
    pub(super) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "invariant: a full matrix");
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The transpose, without a copy.
    pub(super) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `c ← a·b + keep·c`, with `c` row-major.
///
/// # Panics
/// If the extents do not fit together.
#[allow(unsafe_code, reason = "the kernel takes pointers")]
pub(super) fn multiply<T: Number>(a: View<'_, T>, b: View<'_, T>, keep: T, c: &mut [T]) {
    assert_eq!(a.columns, b.rows, "invariant: inner extents agree");
    assert_eq!(c.len(), a.rows * b.columns, "invariant: the product fits");
    let stride = |s: usize| isize::try_from(s).expect("invariant: slices are shorter than isize");
    // SAFETY: a `View` has rows × columns values under its strides by construction, and
    // `c` was checked to hold the row-major product.
    unsafe {
        T::gemm(
            (a.rows, a.columns, b.columns),
            (
                a.values.as_ptr(),
                stride(a.row_stride),
                stride(a.column_stride),
            ),
            (
                b.values.as_ptr(),
                stride(b.row_stride),
                stride(b.column_stride),
            ),
            keep,
            (c.as_mut_ptr(), stride(b.columns), 1),
        );
    }
}

macro_rules! number {
    ($type:ty, $gemm:path) => {
        impl Number for $type {
            #[expect(unsafe_code, reason = "the library multiplies behind raw pointers")]
            unsafe fn gemm(
                (m, k, n): (usize, usize, usize),
                a: (*const Self, isize, isize),
                b: (*const Self, isize, isize),
                keep: Self,
                c: (*mut Self, isize, isize),
            ) {
                // SAFETY: the caller's promise is the callee's.
                unsafe {
                    $gemm(
                        m, k, n, 1.0, a.0, a.1, a.2, b.0, b.1, b.2, keep, c.0, c.1, c.2,
                    )
                }
            }
        }
    };
}

number!(f32, matrixmultiply::sgemm);
number!(f64, matrixmultiply::dgemm);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposes() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0_f64];
        let a = View::new(&a, 2, 3);
        let mut c = [0.0; 4];
        multiply(a, a.transposed(), 0.0, &mut c);
        assert_eq!(c, [14.0, 32.0, 32.0, 77.0]);
        let mut c = [1.0; 9];
        multiply(a.transposed(), a, 1.0, &mut c);
        assert_eq!(c, [18., 23., 28., 23., 30., 37., 28., 37., 46.]);
    }
}
