//! The origin that points and means are counted from.

use ndarray::{Array3, ArrayView1, ArrayView4, Axis, CowArray, Ix4};

use crate::Real;

/// Origin o [B, Hk, D] of the coordinates of `points` [B, Hk, N, D], from which every point lies at
/// a distance that `T` holds exactly.
///
/// A mean that is counted from 0 is rounded to the size of the points, one counted from among them
/// to the size of their spread. Where all points of a coordinate have one sign and lie within a
/// factor of 2 of each other and of o, x − o is exact (Sterbenz 1974, "Floating-point computation",
/// theorem 4.3.1); elsewhere the spread is as large as the points, and o is 0.
///
/// o is a multiple of a power of two at least as large as the spread, so that it stays where it is
/// while points move a little: derivatives take it as constant.
pub(in crate::zoo) fn of<T: Real>(points: &ArrayView4<'_, T>) -> Array3<T> {
    points.map_axis(Axis(2), of_coordinate)
}

fn of_coordinate<T: Real>(x: ArrayView1<'_, T>) -> T {
    let largest = x.iter().fold(f64::NEG_INFINITY, |a, x| a.max(x.f64()));
    let least = x.iter().fold(f64::INFINITY, |a, x| a.min(x.f64()));
    // Of the two ends the one nearer to 0, and the other, as lengths.
    let sign = if largest < 0.0 { -1.0 } else { 1.0 };
    let (near, far) = if largest < 0.0 { (-largest, -least) } else { (least, largest) };
    let spread = far - near;
    let origin = match spread > 0.0 {
        true => {
            let grid = spread.log2().ceil().exp2();
            ((near + 0.5 * spread) / grid).round() * grid
        }
        false => near,
    };
    let origin = T::of(sign * origin);
    let size = origin.f64().abs();
    if near > 0.0 && size <= 2.0 * near && far <= 2.0 * size { origin } else { T::zero() }
}

/// `points` counted from `origin`, which are the same where it is 0.
pub(in crate::zoo) fn counted<'a, T: Real>(
    points: ArrayView4<'a, T>,
    origin: &Array3<T>,
) -> CowArray<'a, T, Ix4> {
    if origin.iter().all(|o| o.is_zero()) {
        return points.into();
    }
    (&points - &origin.view().insert_axis(Axis(2))).into()
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    fn origin(points: &[f32]) -> f32 {
        let points = Array4::from_shape_vec((1, 1, points.len(), 1), points.to_vec()).unwrap();
        of(&points.view())[[0, 0, 0]]
    }

    /// Every difference, against the same difference in a format that holds it.
    #[test]
    fn every_point_lies_at_an_exact_distance() {
        let mut seed = 1u64;
        let mut uniform = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 40) as f64 / (1u64 << 24) as f64
        };
        let mut moved = 0;
        for _ in 0..20_000 {
            let sign = if uniform() < 0.5 { -1.0 } else { 1.0 };
            let middle = sign * 10f64.powf(12.0 * uniform() - 6.0);
            let spread = middle * 10f64.powf(-8.0 * uniform());
            let points: Vec<f32> =
                (0..5).map(|_| (middle + spread * (uniform() - 0.5)) as f32).collect();
            let origin = origin(&points);
            moved += usize::from(origin != 0.0);
            for &x in &points {
                let exact = f64::from(x) - f64::from(origin);
                assert_eq!(f64::from(x - origin), exact, "{points:?} from {origin}");
            }
            // And not at a larger one than the points' own spread asks for.
            let (least, most) = (
                points.iter().copied().fold(f32::INFINITY, f32::min),
                points.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            );
            let farthest = points.iter().fold(0f32, |a, x| a.max((x - origin).abs()));
            assert!(origin == 0.0 || farthest <= 2.0 * (most - least), "{points:?} from {origin}");
        }
        assert!(moved > 15_000, "{moved}");
    }

    #[test]
    fn points_around_zero_and_far_apart_are_left_alone() {
        assert_eq!(origin(&[-1.0, 1e6]), 0.0);
        assert_eq!(origin(&[0.0, 1e6]), 0.0);
        assert_eq!(origin(&[1.0, 1e6]), 0.0);
        assert_eq!(origin(&[0.1]), 0.1);
        assert_eq!(origin(&[-7.5, -7.5]), -7.5);
        assert_eq!(origin(&[f32::INFINITY, 1.0]), 0.0);
        assert_eq!(origin(&[f32::MAX, f32::MAX]), f32::MAX);
    }
}
